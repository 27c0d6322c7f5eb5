# SPDX-License-Identifier: GPL-3.0-or-later
"""Which secrets and configs a container's spec refers to, and where they shall be in the container.  Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from covey.model.spec import ContainerSpec, FileTarget

#: Where a relative target is.
DIRECTORIES = {"secret": "/run/secrets", "config": "/"}


@dataclass(frozen=True, slots=True)
class Use:
    """One reference.  ``kind`` is ``secret`` or ``config``; ``path`` is the reference's, below the container's spec."""

    kind: str
    id: str
    name: str
    file: FileTarget
    path: str

    @property
    def target(self) -> str:
        """The absolute path in the container."""
        joined = posixpath.join(DIRECTORIES[self.kind], self.file.name or self.name)
        return "/" + posixpath.normpath(joined).lstrip("/")


def uses(spec: ContainerSpec) -> Iterator[Use]:
    """The references in their order, secrets first."""
    for number, secret in enumerate(spec.secrets or ()):
        id_, name, file = secret.secret_id or "", secret.secret_name or "", secret.file or FileTarget()
        yield Use("secret", id_, name, file, f"Secrets[{number}]")
    for number, config in enumerate(spec.configs or ()):
        id_, name, file = config.config_id or "", config.config_name or "", config.file or FileTarget()
        yield Use("config", id_, name, file, f"Configs[{number}]")

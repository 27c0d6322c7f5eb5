# SPDX-License-Identifier: GPL-3.0-or-later
"""Authorities outside of the cluster, as a user names them.  Pure.

Each stands for one root: the one whose certificate it brings, or that of the moment.  Which one that was is kept, so
that it means the same after the root was rotated.  Never in it: how they are asked.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from covey.control.authority import authorities_for, wanted_root
from covey.model.errors import InvalidArgument
from covey.model.objects import Cluster
from covey.model.spec import ClusterSpec, ExternalCA
from covey.security.certificate import normal_pem

PATH = "CAConfig.ExternalCAs"
HINT = "name it with docker swarm update --external-ca protocol=cfssl,url=https://..."


def checked(spec: ClusterSpec, present_root: bytes) -> ClusterSpec:
    """The spec with the root of each authority filled in; InvalidArgument where one cannot be asked."""
    config = spec.ca_config
    if config is None or not config.external_cas:
        return spec
    whole = [_checked(each, present_root, f"{PATH}[{number}]") for number, each in enumerate(config.external_cas)]
    return msgspec.structs.replace(spec, ca_config=msgspec.structs.replace(config, external_cas=whole))


def of_others(spec: ClusterSpec) -> ClusterSpec:
    """The spec of a cluster to be founded, whose own root no other authority can have the key of."""
    declared = spec.ca_config.external_cas if spec.ca_config else None
    for number, each in enumerate(declared or ()):
        if not each.ca_cert:
            raise InvalidArgument(
                "a cluster begins with a root of its own, for which no other authority can sign; found it without, and "
                "rotate then: docker swarm ca --rotate --ca-cert FILE --external-ca protocol=cfssl,url=https://...",
                f"{PATH}[{number}].CACert",
            )
    return checked(spec, b"")


def stands_for(spec: ClusterSpec, root: bytes) -> bool:
    """Whether there is an authority for that root."""
    return bool(authorities_for(Cluster(id="", spec=spec), root))


def differ(before: Cluster, after: Cluster) -> bool:
    """Whether other authorities are to sign from now on."""
    wanted = authorities_for(after, wanted_root(after))
    return bool(wanted) and wanted != authorities_for(before, wanted_root(before))


def check_signers(cluster: Cluster) -> None:
    """InvalidArgument if nobody could sign for a root that nodes have."""
    turning = cluster.rotation
    roots = [(cluster.root_certificate, cluster.root_key)] + ([(turning.certificate, turning.key)] if turning else [])
    for certificate, key in roots:
        if not key and not authorities_for(cluster, certificate):
            raise InvalidArgument(
                f"the cluster does not have the key of its root, so an authority that does is needed: {HINT}; or give "
                "the key (docker swarm ca --rotate --ca-cert FILE --ca-key FILE)",
                PATH,
            )


def _checked(declared: ExternalCA, present_root: bytes, path: str) -> ExternalCA:
    _check_url(declared.url, f"{path}.URL")
    if not declared.ca_cert:
        return msgspec.structs.replace(declared, ca_cert=present_root.decode())
    try:
        pem = normal_pem(declared.ca_cert.encode())
    except InvalidArgument as error:
        raise InvalidArgument(str(error), f"{path}.CACert") from error
    return msgspec.structs.replace(declared, ca_cert=pem.decode())


def _check_url(text: str, path: str) -> None:
    try:
        url = urlsplit(text)
        is_complete = url.scheme == "https" and url.hostname and url.port != 0
    except ValueError as error:
        raise InvalidArgument(f"it is no URL: {error}", path) from error
    if url.username is not None or url.password is not None:
        raise InvalidArgument(
            "no name or password belongs into it, since it is shown; managers show their certificates", path
        )
    if not is_complete:
        raise InvalidArgument(f"{text!r} is not the https:// URL of an authority", path)

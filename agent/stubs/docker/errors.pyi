# SPDX-License-Identifier: GPL-3.0-or-later
"""The SDK's errors: an APIError carries the engine's own text."""

from requests.exceptions import HTTPError

class DockerException(Exception): ...

class APIError(HTTPError, DockerException):
    explanation: str | None
    @property
    def status_code(self) -> int | None: ...

class NotFound(APIError): ...

# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own image registry: Debian's docker-registry with TLS on the lab's bridge, holding the test images.

Only the program of the package is used, run by the lab with its own configuration; the package is not installed.
"""

import http.client
import signal
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from covey_lab.debian import unpacked
from covey_lab.host import Surroundings
from covey_lab.images import MANIFEST, Image, digest, images
from covey_lab.places import machine_name
from covey_lab.platform import end
from covey_lab.run import LabError, run
from covey_lab.waiting import wait_until

SETTINGS = """version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory}/registry}}, delete: {{enabled: true}}}}
http: {{addr: "{address}", tls: {{certificate: {certificate}, key: {key}}}}}
"""


@dataclass(frozen=True)
class Registry:
    """A registry that every host's engine trusts; `stop`, `pause` and `resume` make it fail in different ways."""

    around: Surroundings

    @property
    def address(self) -> str:
        return self.around.registry

    def reference(self, name: str, tag: str) -> str:
        """What to pull; `covey/web`, `1` is there from the start."""
        return f"{self.address}/{name}:{tag}"

    def push(self, image: Image, *, tag: str | None = None) -> str:
        """Put an image under its own tag or another; returns the manifest's digest, as a pull shows it."""
        for blob in [*image.blobs, image.config]:
            self._upload(image.name, blob)
        path = f"/v2/{image.name}/manifests/{tag or image.tag}"
        self._ask("PUT", path, image.manifest, {"Content-Type": MANIFEST}, expected=201)
        return digest(image.manifest)

    def start(self) -> None:
        """Runs afterwards with all test images in it; what was pushed before a stop is still there."""
        if not self.around.platform.processes(self._name):
            self.around.platform.forget(self._name)
            program = unpacked(self.around.places, "docker-registry") / "usr/bin/docker-registry"
            settings = self.around.directory / "registry.yml"
            settings.write_text(
                SETTINGS.format(
                    directory=self.around.directory,
                    address=self.address,
                    certificate=self.around.certificate,
                    key=self.around.certificate.with_suffix(".key"),
                )
            )
            command = [str(program), "serve", str(settings)]
            self.around.platform.start(self._name, command, self._log)
        wait_until(self._answers, 20, f"the registry to answer; its log is {self._log}")
        for image in images(self.around.places):
            if self._status(image) != http.client.OK:
                self.push(image)

    def stop(self) -> None:
        """Connections are refused from now on."""
        self.resume()
        for pid in self.around.platform.processes(self._name):
            end(pid, signal.SIGKILL)
        wait_until(lambda: not self.around.platform.processes(self._name), 10, "the registry to end", every=0.02)
        self.around.platform.forget(self._name)

    def pause(self) -> None:
        """Connections are taken and never answered."""
        self.around.platform.freeze(self._name, frozen=True)

    def resume(self) -> None:
        if self.around.platform.processes(self._name):
            self.around.platform.freeze(self._name, frozen=False)

    @property
    def _name(self) -> str:
        return machine_name(self.around.lab, "_registry")  # no host can be called so

    @property
    def _log(self) -> Path:
        return self.around.directory / "registry.log"

    def _answers(self) -> bool:
        try:
            return self._ask("GET", "/v2/", b"", {}, expected=None).status == http.client.OK
        except OSError as error:
            raise LabError(str(error)) from None

    def _status(self, image: Image) -> int:
        path = f"/v2/{image.name}/manifests/{image.tag}"
        return self._ask("HEAD", path, b"", {"Accept": MANIFEST}, expected=None).status

    def _upload(self, name: str, blob: bytes) -> None:
        if self._ask("HEAD", f"/v2/{name}/blobs/{digest(blob)}", b"", {}, expected=None).status == http.client.OK:
            return
        begun = self._ask("POST", f"/v2/{name}/blobs/uploads/", b"", {}, expected=202)
        place = urlsplit(begun.headers["Location"])
        path = f"{place.path}?{place.query}&digest={digest(blob)}"
        self._ask("PUT", path, blob, {"Content-Type": "application/octet-stream"}, expected=201)

    def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str], expected: int | None
    ) -> http.client.HTTPResponse:
        trust = ssl.create_default_context(cafile=str(self.around.certificate))
        host, _, port = self.address.partition(":")
        connection = http.client.HTTPSConnection(host, int(port), context=trust, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if expected is not None and answer.status != expected:
            raise LabError(f"the registry answered {answer.status} to {method} {path}: {said.decode(errors='replace')}")
        return answer


def make_certificate(around: Surroundings) -> None:
    """A certificate for the registry's address that is its own authority, good for as long as the lab is there."""
    key = around.certificate.with_suffix(".key")
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
        "-subj", f"/CN=covey lab {around.lab}", "-addext", f"subjectAltName=IP:{around.net.gateway}",
        "-keyout", key, "-out", around.certificate,
    )  # fmt: skip

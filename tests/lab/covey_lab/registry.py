# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own image registry: Debian's docker-registry with TLS on the lab's bridge."""

from dataclasses import dataclass

from covey_lab.host import Surroundings
from covey_lab.run import LabError, run


@dataclass(frozen=True)
class Registry:
    address: str


def make_certificate(around: Surroundings) -> None:
    key = around.certificate.with_suffix(".key")
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
        "-subj", f"/CN=covey lab {around.lab}", "-addext", f"subjectAltName=IP:{around.net.gateway}",
        "-keyout", key, "-out", around.certificate,
    )  # fmt: skip


def started(around: Surroundings) -> Registry:
    raise LabError("coming")

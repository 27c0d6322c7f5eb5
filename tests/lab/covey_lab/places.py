# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps things and what it calls them on this machine. Only names; touches nothing.

Everything the lab makes outside its own directories carries one of the names below, and `clean` removes by exactly
these names: nothing that somebody else made can match.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from covey_lab.run import LabError

GATEWAY = 254
LAB_NAME = re.compile(r"[a-z][a-z0-9]{0,19}")  # no dash: `covey-LAB-HOST` stays readable back into its two parts
HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class Places:
    """The three directories of all labs: what may be rebuilt, what a lab is, what does not outlive a reboot."""

    cache: Path
    state: Path
    runtime: Path

    @classmethod
    def of_machine(cls) -> "Places":
        """As the environment says: COVEY_CACHE and COVEY_LAB_STATE, else the places below /var."""
        return cls(
            cache=Path(os.environ.get("COVEY_CACHE", "/var/cache/covey")) / "lab",
            state=Path(os.environ.get("COVEY_LAB_STATE", "/var/lib/covey-lab")),
            runtime=Path("/run/covey-lab"),
        )


@dataclass(frozen=True)
class Net:
    """The names and addresses of lab number `number` (1 to 250)."""

    number: int

    @property
    def subnet(self) -> str:
        return f"10.86.{self.number}.0/24"

    @property
    def gateway(self) -> str:
        """This machine, seen from the hosts."""
        return self.address(GATEWAY)

    @property
    def bridge(self) -> str:
        return f"cv{self.number}-br"

    @property
    def table(self) -> str:
        """The name of this lab's nftables tables on this machine."""
        return f"covey_lab_{self.number}"

    def address(self, host: int) -> str:
        return f"10.86.{self.number}.{host}"

    def port(self, host: int) -> str:
        """This machine's end of the host's cable."""
        return f"cv{self.number}-{host}"

    def mac(self, host: int) -> str:
        """Fixed, so that nobody's ARP cache points at a cable that is gone after the host booted again."""
        return f"02:c0:5e:00:{self.number:02x}:{host:02x}"


def machine_name(lab: str, host: str) -> str:
    """What the host's network namespace, control groups and unit are called on this machine."""
    return f"covey-{lab}-{host}"


def check_lab_name(name: str) -> str:
    if not LAB_NAME.fullmatch(name):
        raise LabError(f"lab name {name!r}: give up to 20 of a-z and 0-9, beginning with a letter")
    return name


def check_host_name(name: str) -> str:
    if not HOST_NAME.fullmatch(name):
        raise LabError(f"host name {name!r}: give up to 31 of a-z, 0-9 and -, beginning with a letter")
    return name

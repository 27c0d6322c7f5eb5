# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger that the nemesis trusts, held against managers that lose, change or hide what they acknowledged."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

import pytest

from covey_lab.run import LabError
from covey_shows.writers import Ledger

PATIENCE = 0.2


@dataclass
class Liars:
    """Three managers; each holds every config under its own name, as far as a test does not say otherwise."""

    held: dict[str, dict[str, str]]
    leaders: list[str] = field(default_factory=lambda: ["a"])
    unreachable: list[str] = field(default_factory=list)

    @dataclass(frozen=True)
    class Host:
        name: str

    @property
    def managers(self) -> list[str]:
        return list(self.held)

    @property
    def managing(self) -> list[Any]:
        return [self.Host(name) for name in self.held]

    def nodes(self) -> dict[str, Any]:
        return {
            name: {
                "ManagerStatus": {
                    "Leader": name in self.leaders,
                    "Reachability": "unreachable" if name in self.unreachable else "reachable",
                }
            }
            for name in self.held
        }

    def get(self, path: str, on: Any) -> Any:
        if path.startswith("/configs"):
            return [
                {"ID": name, "Spec": {"Name": name, "Data": b64encode(value.encode()).decode()}}
                for name, value in self.held[on.name].items()
            ]
        return {"Raft": {"Term": 3, "Index": 70}} if path.endswith("status") else []


@pytest.fixture
def liars() -> Liars:
    return Liars({name: {f"w-{number}": f"w-{number}" for number in range(9)} for name in "abc"})


@pytest.fixture
def ledger(liars: Liars) -> Ledger:
    ledger: Ledger = Ledger(liars)  # type: ignore[arg-type]  # as much of a cluster as a ledger asks
    ledger.names = {f"w-{number}" for number in range(8)}
    return ledger


def test_it_is_content_with_managers_that_kept_their_word(ledger: Ledger) -> None:
    """What was written though nobody was told, as the ninth, is no lie."""
    ledger.settle(PATIENCE)


def test_a_write_that_all_of_them_lost(liars: Liars, ledger: Ledger) -> None:
    for held in liars.held.values():
        del held["w-5"]
    with pytest.raises(AssertionError, match=r"lost 1 of 8 acknowledged writes: .*w-5"):
        ledger.settle(PATIENCE)


def test_a_write_that_became_another_one(liars: Liars, ledger: Ledger) -> None:
    for held in liars.held.values():
        held["w-5"] = "w-6"
    with pytest.raises(AssertionError, match="other values than were written"):
        ledger.settle(PATIENCE)


def test_a_write_that_one_of_them_does_not_have(liars: Liars, ledger: Ledger) -> None:
    del liars.held["c"]["w-8"]
    with pytest.raises(LabError, match="the same state"):
        ledger.settle(PATIENCE)


@pytest.mark.parametrize("leaders", [[], ["a", "b"]])
def test_none_that_leads_or_two(liars: Liars, ledger: Ledger, leaders: list[str]) -> None:
    liars.leaders = leaders
    with pytest.raises(LabError, match="under one leader"):
        ledger.settle(PATIENCE)


def test_one_that_is_not_there(liars: Liars, ledger: Ledger) -> None:
    liars.unreachable = ["b"]
    with pytest.raises(LabError, match="to be reachable"):
        ledger.settle(PATIENCE)

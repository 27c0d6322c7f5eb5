# SPDX-License-Identifier: GPL-3.0-or-later
"""Published ports as rules of the packet filter, as pure functions; never a call to the kernel.

The engine publishes ports by rules of its own and takes them away for a moment whenever it starts, though containers
run on.  Ours say the same and stand behind the engine's, so that they only count while the engine's are away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

NAT_CHAIN, FORWARD_CHAIN = "COVEY-HOSTPORTS", "COVEY-FORWARD"
#: What the engine's rules can say too.
PROTOCOLS = ("tcp", "udp")

#: What leads into our chains, as iptables-save prints it: (table, chain, rule).
_LOCAL = f"-m addrtype --dst-type LOCAL -j {NAT_CHAIN}"
_JUMPS = (
    ("filter", "FORWARD", f"-j {FORWARD_CHAIN}"),
    ("nat", "PREROUTING", _LOCAL),
    ("nat", "OUTPUT", f"! -d 127.0.0.0/8 {_LOCAL}"),
)
_CHAINS = {"filter": FORWARD_CHAIN, "nat": NAT_CHAIN}


@dataclass(frozen=True, slots=True, order=True)
class HostPort:
    """``published`` on each IPv4 address of the host leads to ``target`` of the container at ``address``."""

    protocol: str
    published: int
    address: str
    target: int


def change(wanted: Iterable[HostPort], saved: str) -> str:
    """What turns ``saved`` (of iptables-save) into the wanted rules, for iptables-restore; empty if nothing does."""
    ports, there = sorted(wanted), _tables(saved)
    rules = {"filter": [*_forwarding(ports)], "nat": [*_translation(ports)]}
    return "".join(_table(table, _CHAINS[table], rules[table], there.get(table, {})) for table in _CHAINS)


def removal(saved: str) -> str:
    """What takes everything of ours out of ``saved`` (of iptables-save), for iptables-restore."""
    text, there = "", _tables(saved)
    for table, chain in _CHAINS.items():
        chains = there.get(table, {})
        lines = [f"-D {parent} {jump}" for _, parent, jump in _jumps(table) if jump in chains.get(parent, ())]
        if chain in chains:
            lines += [f"-F {chain}", f"-X {chain}"]
        text += _restore(table, lines)
    return text


def _translation(ports: Iterable[HostPort]) -> Iterator[str]:
    # From the engine's own bridges such a port is reached through the engine's proxy.
    yield from ("-i docker0 -j RETURN", "-i br-+ -j RETURN")
    for port in ports:
        match = f"-p {port.protocol} -m {port.protocol} --dport {port.published}"
        yield f"{match} -j DNAT --to-destination {port.address}:{port.target}"


def _forwarding(ports: Iterable[HostPort]) -> Iterator[str]:
    yield "-m conntrack ! --ctstate DNAT -j RETURN"
    # What the user forbids there stays forbidden.  It is missing where the engine shall leave the packet filter alone;
    # then this refers to nothing, and the kernel refuses the whole.
    yield "-j DOCKER-USER"
    for protocol, address, target in sorted({(port.protocol, port.address, port.target) for port in ports}):
        match = f"-p {protocol} -m {protocol}"
        yield f"-d {address}/32 {match} --dport {target} -j ACCEPT"
        yield f"-s {address}/32 {match} --sport {target} -m conntrack --ctdir REPLY -j ACCEPT"


def _table(table: str, chain: str, rules: list[str], there: Mapping[str, list[str]]) -> str:
    lines = []
    if there.get(chain) != rules:
        lines += [f":{chain} - [0:0]", *(f"-A {chain} {rule}" for rule in rules)]
    for _, parent, jump in _jumps(table):
        lines += _placed(parent, jump, there.get(parent, []))
    return _restore(table, lines)


def _placed(parent: str, jump: str, rules: list[str]) -> list[str]:
    """Forwarding: anywhere before what refuses the rest.  Translation: behind the engine's rules."""
    if parent == "FORWARD":
        return [] if jump in rules else [f"-I {parent} {jump}"]
    if jump not in rules:
        return [f"-A {parent} {jump}"]
    late = any(rule.endswith("-j DOCKER") for rule in rules[rules.index(jump) :])
    return [f"-D {parent} {jump}", f"-A {parent} {jump}"] if late else []


def _jumps(table: str) -> list[tuple[str, str, str]]:
    return [jump for jump in _JUMPS if jump[0] == table]


def _restore(table: str, lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in (f"*{table}", *lines, "COMMIT")) if lines else ""


def _tables(saved: str) -> dict[str, dict[str, list[str]]]:
    """The rules of each chain of each table."""
    tables: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            chains = tables.setdefault(line[1:].strip(), {})
        elif line.startswith(":"):
            chains.setdefault(line[1:].split()[0], [])
        elif found := re.fullmatch(r"-A (\S+) (.*?)\s*", line):
            chains.setdefault(found[1], []).append(found[2])
    return tables

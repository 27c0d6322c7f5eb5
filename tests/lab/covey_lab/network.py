# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab's network: one bridge on this machine, per host a network namespace and a cable, and the packet rules.

Rules stand on this machine, not in the hosts: a host that is cut off from its peers still answers ssh, and nothing it
does to its own firewall mends the link. They are made from the record as a whole each time, never edited.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from covey_lab.places import Net
from covey_lab.run import run

ANYONE = "*"
FORWARD = ("ip", "filter", "FORWARD")  # where a Docker Engine on this machine drops what is not its own
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True)
class Cut:
    """Frames from one host to another are dropped; host numbers, or ANYONE."""

    source: int | str
    target: int | str


def ensure_bridge(net: Net) -> None:
    if Path("/sys/class/net", net.bridge).exists():
        return
    run("ip", "link", "add", net.bridge, "type", "bridge", "forward_delay", "0")
    run("ip", "addr", "add", f"{net.gateway}/24", "dev", net.bridge)
    run("ip", "link", "set", net.bridge, "up")


def wire(net: Net, host: int, namespace: str) -> None:
    """Give the host a network namespace as new: what an earlier boot left in it (bridges, rules) is gone."""
    unwire(net, host, namespace)
    port, inside = net.port(host), ("ip", "-n", namespace)
    run("ip", "netns", "add", namespace)
    run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "address", net.mac(host), "netns", namespace)
    run("ip", "link", "set", port, "master", net.bridge, "up")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "addr", "add", f"{net.address(host)}/24", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "route", "add", "default", "via", net.gateway)


def unwire(net: Net, host: int, namespace: str) -> None:
    """The cable goes first: a namespace is torn down later than its deletion returns, and its names with it."""
    if Path("/sys/class/net", net.port(host)).exists():
        run("ip", "link", "del", net.port(host))
    if Path("/run/netns", namespace).exists():
        run("ip", "netns", "del", namespace)


def apply_rules(net: Net, cuts: Iterable[Cut], nat: bool) -> None:
    """Make this machine's rules for the lab exactly these."""
    run("nft", "-f", "-", stdin=rules(net, cuts, nat))
    _forget_passage(net)
    if "policy drop" in run("nft", "list", "chain", *FORWARD, check=False).stdout:
        for match in ("iifname", "oifname"):
            run("nft", "insert", "rule", *FORWARD, match, net.bridge, "accept", "comment", f'"{net.table}"')


def rules(net: Net, cuts: Iterable[Cut], nat: bool) -> str:
    """For nft: both tables as they shall be, in one transaction."""
    drops = "\n".join(f"    {_match(net, cut)} drop" for cut in cuts)
    text = f"""
table bridge {net.table} {{
  chain forward {{
    type filter hook forward priority 0; policy accept;
{drops}
  }}
}}
"""
    if nat:
        text += f"""
table ip {net.table} {{
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr {net.subnet} ip daddr != {net.subnet} masquerade
  }}
}}
"""
    return _without_tables(net) + text


def remove(net: Net) -> None:
    """Take down every cable, the bridge and the rules of this lab."""
    run("nft", "-f", "-", stdin=_without_tables(net))
    _forget_passage(net)
    for link in Path("/sys/class/net").glob(f"cv{net.number}-*"):
        if link.name != net.bridge:
            run("ip", "link", "del", link.name, check=False)
    if Path("/sys/class/net", net.bridge).exists():
        run("ip", "link", "del", net.bridge)


def forwarding() -> bool:
    return FORWARDING.read_text().strip() == "1"


def set_forwarding(on: bool) -> None:
    FORWARDING.write_text("1\n" if on else "0\n")


def _forget_passage(net: Net) -> None:
    """Remove the rules that let this lab through a firewall which drops what it does not know."""
    for line in run("nft", "-a", "list", "chain", *FORWARD, check=False).stdout.splitlines():
        if f'comment "{net.table}"' in line:
            run("nft", "delete", "rule", *FORWARD, "handle", line.rsplit(" ", 1)[1])


def free_number(taken: set[int]) -> int:
    """A lab number whose net nobody on this machine uses."""
    routes = run("ip", "-4", "route", "show", "table", "all").stdout
    return next(n for n in range(1, 251) if n not in taken and f" 10.86.{n}." not in f" {routes}".replace("\n", " "))


def _match(net: Net, cut: Cut) -> str:
    source = "" if cut.source == ANYONE else f'iifname "{net.port(int(cut.source))}" '
    target = "" if cut.target == ANYONE else f'oifname "{net.port(int(cut.target))}" '
    return f"{source}{target}".strip()


def _without_tables(net: Net) -> str:
    """Declaring before deleting makes deleting right whether or not the table is there."""
    both = ("bridge", "ip")
    return "".join(f"table {family} {net.table}\ndelete table {family} {net.table}\n" for family in both)

# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m covey_lab`: the lab for people. Reads arguments and prints; the lab itself is in lab.py and host.py."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

from covey_lab import network
from covey_lab.base import FLAVOURS
from covey_lab.images import archive, images
from covey_lab.inventory import inventory
from covey_lab.lab import Lab, all_labs
from covey_lab.run import LabError

Command = Callable[[Lab, argparse.Namespace], int | None]


def main(argv: Sequence[str]) -> int:
    """Run one command; what goes wrong is one message on stderr and exit 1."""
    arguments = _parser().parse_args(argv)
    try:
        if os.geteuid() != 0:
            raise LabError("the lab boots hosts with systemd-nspawn: run it as root")
        command: Command = arguments.run
        return command(Lab.open(arguments.lab), arguments) or 0
    except LabError as error:
        print(f"covey_lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "covey_lab: interrupted; what was begun is there: go on with `up`, or end it with `clean`", file=sys.stderr
        )
        return 130


def _base(lab: Lab, arguments: argparse.Namespace) -> None:
    for flavour in arguments.flavours or list(FLAVOURS):
        print(lab.base(flavour))


def _up(lab: Lab, arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    small = dict(_pair(text) for text in arguments.small)
    hosts = lab.up(arguments.names, arguments.flavour, nat=arguments.nat, small=small)
    print(f"{len(hosts)} up in {time.monotonic() - began:.1f} s: " + ", ".join(f"{h.name} {h.address}" for h in hosts))


def _pair(text: str) -> tuple[str, str]:
    path, equals, size = text.partition("=")
    if not equals or not path.startswith("/"):
        raise LabError(f"--small {text!r}: give the absolute path and the size, as in /var/lib/covey=64M")
    return path, size


def _power(act: str) -> Command:
    def command(lab: Lab, arguments: argparse.Namespace) -> None:
        for name in arguments.names:
            getattr(lab.host(name), act)()

    return command


def _remove(lab: Lab, arguments: argparse.Namespace) -> None:
    lab.remove(arguments.names)


def _cut(lab: Lab, arguments: argparse.Namespace) -> None:
    lab.cut(arguments.source, arguments.target, one_way=arguments.one_way)


def _mend(lab: Lab, arguments: argparse.Namespace) -> None:
    lab.mend(arguments.source, arguments.target)


def _pause(lab: Lab, arguments: argparse.Namespace) -> None:
    lab.host(arguments.name).pause(arguments.unit)


def _resume(lab: Lab, arguments: argparse.Namespace) -> None:
    lab.host(arguments.name).resume(arguments.unit)


def _fill(lab: Lab, arguments: argparse.Namespace) -> None:
    host = lab.host(arguments.name)
    if arguments.free:
        host.free(arguments.path)
    else:
        host.fill(arguments.path)


def _ssh(lab: Lab, arguments: argparse.Namespace) -> int:
    command = lab.host(arguments.name).shell.command()
    (lab.places.runtime / lab.name).mkdir(parents=True, exist_ok=True, mode=0o700)
    os.execvp(command[0], [*command, *arguments.command])


def _inventory(lab: Lab, arguments: argparse.Namespace) -> None:
    hosts = lab.hosts
    managers = arguments.managers.split(",") if arguments.managers else [host.name for host in hosts[:1]]
    print(inventory(hosts, managers), end="")


def _list(lab: Lab, _: argparse.Namespace) -> None:
    for name in all_labs(lab.places):
        for host in Lab(name, lab.places, lab.platform).hosts:
            print(
                f"{name:12} {host.name:16} {host.address:14} {host.record.flavour:8} {'on' if host.running else 'off'}"
            )


def _clean(lab: Lab, arguments: argparse.Namespace) -> None:
    for name in all_labs(lab.places) if arguments.all else [lab.name]:
        Lab(name, lab.places, lab.platform).clean()


def _wire(lab: Lab, arguments: argparse.Namespace) -> None:
    host = Lab(arguments.of, lab.places, lab.platform).host(arguments.name)
    network.wire(host.around.net, host.record.number, host.machine_name)


def _registry(lab: Lab, _: argparse.Namespace) -> None:
    registry = lab.registry()
    print("\n".join(registry.reference(image.name, image.tag) for image in images(lab.places)))


def _load(lab: Lab, arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        lab.host(name).load(archive(lab.places))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="covey_lab", description="Whole hosts on one machine, for tests and demos.")
    default = os.environ.get("COVEY_LAB", "demo")
    parser.add_argument("--lab", default=default, help=f"which lab (COVEY_LAB; now {default})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Command, text: str | None, *operands: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text) if text else commands.add_parser(name)
        made.set_defaults(run=run)
        for operand in operands:
            made.add_argument(operand.lower().rstrip("."), metavar=operand, nargs="+" if "." in operand else None)
        return made

    add("base", _base, "make the base file systems").add_argument("flavours", nargs="*", metavar="FLAVOUR")
    up = add("up", _up, "boot hosts, making those that are not there", "NAMES...")
    up.add_argument("--flavour", choices=sorted(FLAVOURS), help="of hosts made now (docker)")
    up.add_argument("--nat", action=argparse.BooleanOptionalAction, help="let the lab's hosts reach the registries")
    up.add_argument("--small", action="append", default=[], metavar="PATH=SIZE", help="a small file system there")
    add("down", _power("power_off"), "power off, the disk stays", "NAMES...")
    add("plug", _power("plug"), "pull the plug, the disk stays", "NAMES...")
    add("wipe", _power("wipe"), "pull the plug and forget the disk", "NAMES...")
    add("reboot", _power("reboot"), "reboot and wait until it is up", "NAMES...")
    add("remove", _remove, "wipe and forget the host", "NAMES...")
    cut = add("cut", _cut, "let nothing through between two hosts, or between one and all others", "SOURCE")
    cut.add_argument("target", nargs="?", default="*", metavar="TARGET")
    cut.add_argument("--one-way", action="store_true", help="only from SOURCE to TARGET")
    mend = add("mend", _mend, "undo cuts: between two hosts, of one, or all")
    mend.add_argument("source", nargs="?", default="*", metavar="SOURCE")
    mend.add_argument("target", nargs="?", default="*", metavar="TARGET")
    for name, act in (("pause", _pause), ("resume", _resume)):
        held = add(name, act, f"{name} a unit's processes, or the whole host", "NAME")
        held.add_argument("unit", nargs="?", metavar="UNIT")
    add("fill", _fill, "fill a small file system", "NAME", "PATH").add_argument("--free", action="store_true")
    ssh = add("ssh", _ssh, "a shell there, or one command", "NAME")
    ssh.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    add("inventory", _inventory, "print the Ansible inventory").add_argument("--managers", metavar="NAME,NAME")
    add("registry", _registry, "start the lab's registry and print what can be pulled from it")
    add("load", _load, "give the test images to the hosts' engines", "NAMES...")
    add("list", _list, "all labs and their hosts")
    add("clean", _clean, "take everything of the lab down").add_argument("--all", action="store_true", help="every lab")
    add("wire", _wire, None, "OF", "NAME")
    return parser

# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab: its hosts, the links between them, and taking all of it down again, whatever happened before."""

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from covey_lab import network, record, registry
from covey_lab.base import ensure_base
from covey_lab.host import Host, Surroundings
from covey_lab.mounts import remove_tree
from covey_lab.network import ANYONE, Cut
from covey_lab.places import Net, Places, check_host_name, check_lab_name, machine_name
from covey_lab.platform import Platform, end, this_machine
from covey_lab.record import HostRecord, Record
from covey_lab.run import LabError, locked, run
from covey_lab.waiting import wait_until


class Lab:
    """The lab called `name`. Making the object touches nothing; hosts come with `up`, and `clean` ends it all.

    Any process may hold such an object for the same lab: what it is stands in its record, changed under a lock.
    """

    def __init__(self, name: str, places: Places, platform: Platform) -> None:
        self.name, self.places, self.platform = check_lab_name(name), places, platform
        self.directory = places.state / name

    @classmethod
    def open(cls, name: str) -> "Lab":
        """The lab of that name on this machine."""
        return cls(name, Places.of_machine(), this_machine())

    # -- hosts ---------------------------------------------------------------------------------------------------

    @property
    def hosts(self) -> list[Host]:
        """All hosts this lab has, on or off, in the order they were made."""
        present = self._load()
        return [] if present is None else [self._host(name, present) for name in present.hosts]

    def host(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"lab {self.name} has no host {name}; make it with `up {name}`")

    def up(
        self,
        names: Sequence[str],
        flavour: str | None = None,
        *,
        nat: bool | None = None,
        small: Mapping[str, str] | None = None,
    ) -> list[Host]:
        """Boot these hosts, making those that are not there (flavour `docker` unless said); returns when all are up.

        `nat`: let the hosts of this lab reach the package registries (None: as it is).
        `small`: file systems of that size at these paths, for hosts made now.
        """
        for name in names:
            check_host_name(name)
        with self._changing(create=True) as present:
            present.nat = present.nat if nat is None else nat
            for name in names:
                self._declare(present, name, flavour, dict(small or {}))
        self._apply_network()
        hosts = [self.host(name) for name in names]
        _each(Host.start, hosts)
        _each(Host.wait, hosts)
        return hosts

    def fresh(
        self,
        names: Sequence[str],
        flavour: str = "docker",
        *,
        nat: bool | None = None,
        small: Mapping[str, str] | None = None,
    ) -> list[Host]:
        """These hosts with disks as new, of that flavour, and every link whole."""
        present = {host.name: host for host in self.hosts}
        _each(Host.wipe, [present[name] for name in names if name in present])
        with self._changing(create=True) as changing:
            changing.cuts.clear()
            for name in names:
                changing.hosts.pop(name, None)
        return self.up(names, flavour, nat=nat, small=small)

    def remove(self, names: Sequence[str]) -> None:
        """Wipe these hosts and forget them, their addresses too."""
        _each(Host.wipe, [self.host(name) for name in names])
        with self._changing() as present:
            present.cuts = [cut for cut in present.cuts if not set(cut) & set(names)]
            for name in names:
                del present.hosts[name]
        self._apply_network()

    def move(self, name: str) -> Host:
        """Pull the host's plug and give it an address it did not have; the disk stays. It is off, and a new object."""
        self.host(name).plug()
        with self._changing() as present:
            present.hosts[name].number = _free_number(present)
        self._apply_network()
        return self.host(name)

    # -- links ---------------------------------------------------------------------------------------------------

    def cut(self, source: str, target: str = ANYONE, *, one_way: bool = False) -> None:
        """Let nothing through from `source` to `target`, nor back unless `one_way`; `*` is every other host.

        Only between hosts: ssh from this machine and the registry go on working.
        """
        with self._changing() as present:
            pairs = [(source, target)] if one_way else [(source, target), (target, source)]
            for name in {source, target} - {ANYONE}:
                if name not in present.hosts:
                    raise LabError(f"lab {self.name} has no host {name}, so there is no link of it to cut")
            present.cuts += [pair for pair in pairs if pair not in present.cuts]
        self._apply_network()

    def mend(self, source: str = ANYONE, target: str = ANYONE) -> None:
        """Undo the cuts between these two, of this one, or all."""
        with self._changing() as present:
            named = {source, target} - {ANYONE}
            present.cuts = [cut for cut in present.cuts if not named <= set(cut)]
        self._apply_network()

    # -- the registry --------------------------------------------------------------------------------------------

    def registry(self) -> registry.Registry:
        """The lab's own registry, running: TLS, trusted by every host's engine, with the test images in it."""
        with self._changing(create=True) as present:
            around = self._around(present)
        self._apply_network()
        made = registry.Registry(around)
        made.start()
        return made

    # -- the end -------------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Take down all of this lab, in whatever state it is; does nothing where there is none."""
        present = self._load()
        prefix = machine_name(self.name, "")
        _each(Host.wipe, self.hosts)
        for name in self.platform.names(prefix):
            self._end(name)
        for path in Path("/run/netns").glob(f"{prefix}*"):
            run("ip", "netns", "del", path.name, check=False)
        if present is not None:
            network.remove(Net(present.number))
        remove_tree(self.directory / "hosts")
        shutil.rmtree(self.places.runtime / self.name, ignore_errors=True)
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self._restore_forwarding()

    def _end(self, name: str) -> None:
        """A helper process of the lab, or what a crash left of a host that the record no longer has."""
        self.platform.freeze(name, frozen=False)
        for pid in self.platform.processes(name):
            end(pid, signal.SIGKILL)
        wait_until(lambda: not self.platform.processes(name), 10, f"{name} to end", every=0.02)
        self.platform.forget(name)

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _path(self) -> Path:
        return self.directory / "lab.json"

    def _load(self) -> Record | None:
        return record.load(self._path)

    @contextlib.contextmanager
    def _changing(self, *, create: bool = False) -> Iterator[Record]:
        """The record under its lock, saved at the end."""
        with locked(self.places.runtime / f"{self.name}.lock"):
            present = self._load()
            if present is None and not create:
                raise LabError(f"there is no lab {self.name}; `up NAME` makes it")
            present = present or self._create()
            yield present
            record.save(self._path, present)

    def _create(self) -> Record:
        with locked(self.places.runtime / "numbers.lock"):
            others = [record.load(path) for path in self.places.state.glob("*/lab.json")]
            new = Record(network.free_number({other.number for other in others if other}))
            record.save(self._path, new)
        around = self._around(new)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"covey-lab-{self.name}", "-f", around.key)
        registry.make_certificate(around)
        return new

    def _around(self, present: Record) -> Surroundings:
        return Surroundings(self.name, Net(present.number), self.places, self.platform)

    def _host(self, name: str, present: Record) -> Host:
        return Host(name, present.hosts[name], self._around(present))

    def _declare(self, present: Record, name: str, flavour: str | None, small: dict[str, str]) -> None:
        known = present.hosts.get(name)
        if known is not None:
            if flavour not in {None, known.flavour}:
                raise LabError(f"{name} is a {known.flavour} host; `remove {name}` first to make it {flavour}")
            if not (self.directory / "hosts" / name / "upper").exists():
                known.base = str(self.base(known.flavour))
            return
        number = _free_number(present)
        chosen = flavour or "docker"
        present.hosts[name] = HostRecord(number, chosen, str(self.base(chosen)), small)

    def base(self, flavour: str) -> Path:
        """The base of that flavour, made if need be; those that hosts of any lab stand on, even while off, are kept."""
        labs = [record.load(path) for path in self.places.state.glob("*/lab.json")]
        used = {Path(host.base) for lab in labs if lab for host in lab.hosts.values()}
        return ensure_base(self.places, flavour, used)

    def _apply_network(self) -> None:
        present = self._load()
        if present is None:
            return
        net = Net(present.number)
        number = {ANYONE: ANYONE} | {name: host.number for name, host in present.hosts.items()}
        network.ensure_bridge(net)
        network.apply_rules(net, [Cut(number[a], number[b]) for a, b in present.cuts], present.nat)
        if present.nat and not network.forwarding():
            self._forwarding_marker.touch()
            network.set_forwarding(True)

    @property
    def _forwarding_marker(self) -> Path:
        """Says that it was the lab that made this machine forward packets."""
        return self.places.runtime / "forwarding-was-off"

    def _restore_forwarding(self) -> None:
        labs = [record.load(path) for path in self.places.state.glob("*/lab.json")]
        if self._forwarding_marker.exists() and not any(lab.nat for lab in labs if lab):
            network.set_forwarding(False)
            self._forwarding_marker.unlink()


def _free_number(present: Record) -> int:
    taken = {host.number for host in present.hosts.values()}
    return next(number for number in range(1, network_size()) if number not in taken)


def network_size() -> int:
    """Host numbers end before the gateway's."""
    return 251


def all_labs(places: Places) -> list[str]:
    return sorted(path.parent.name for path in places.state.glob("*/lab.json"))


def _each(act: Callable[[Host], None], hosts: Sequence[Host]) -> None:
    """Do it with all of them at once; the first error is raised when all have ended."""
    if not hosts:
        return
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        futures = [pool.submit(act, host) for host in hosts]
    for future in futures:
        future.result()

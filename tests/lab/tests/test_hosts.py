# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts do what real ones do: keep their disk over a pulled plug, lose each other, run full, stand still, come back."""

import functools
import json
import subprocess
import time
from pathlib import Path

import pytest

from covey_lab.collect import collect
from covey_lab.host import Host
from covey_lab.images import digest, images
from covey_lab.inventory import inventory
from covey_lab.lab import Lab
from covey_lab.registry import Registry
from covey_lab.run import LabError
from covey_lab.waiting import wait_until

pytestmark = pytest.mark.lab


def reaches(source: Host, target: Host) -> bool:
    return source.ssh(f"ping -c 1 -W 1 {target.address}", check=False).ok


def test_a_host_is_a_whole_debian(hosts: list[Host]) -> None:
    one = hosts[0]
    assert one.ssh("systemctl is-system-running").out.strip() == "running"
    assert one.ssh("hostname").out.strip() == "one"
    assert one.ssh("cat /proc/1/comm").out.strip() == "systemd"
    assert set(one.ssh("ls /sys/class/net").out.split()) == {"lo", "eth0", "docker0"}
    assert json.loads(one.docker("info", "--format", "{{json .Driver}}").out) == "overlay2"
    assert json.loads(one.docker("info", "--format", "{{json .LiveRestoreEnabled}}").out) is True


def test_limits_hold_for_units_and_containers(hosts: list[Host]) -> None:
    eat = "python3 -c 'x = bytearray(100_000_000)'"
    assert hosts[0].ssh(f"systemd-run -q --wait -p MemoryMax=200M {eat}").ok
    assert not hosts[0].ssh(f"systemd-run -q --wait -p MemoryMax=50M -p MemorySwapMax=0 {eat}", check=False).ok
    limits = (
        hosts[0].docker("run", "--rm", "-m", "64m", "--cpus", "0.5", "covey/busybox:1", "sh", "-c", SHOW_LIMITS).out
    )
    assert limits.split() in (["67108864", "50000"], ["67108864", "50000", "100000"])  # cgroup v1, v2


SHOW_LIMITS = """cd /sys/fs/cgroup
cat memory.max cpu.max 2>/dev/null || cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us"""


def test_hosts_differ_where_real_ones_do(hosts: list[Host]) -> None:
    for command in ("cat /etc/machine-id", "docker info -f '{{.ID}}'", "cat /proc/sys/kernel/random/boot_id"):
        assert len({host.ssh(command).out for host in hosts}) == len(hosts), command


def test_a_pulled_plug_keeps_the_disk(hosts: list[Host]) -> None:
    two = hosts[1]
    machine = two.ssh("cat /etc/machine-id").out
    two.ssh("echo kept > /root/file && sync")
    boot = two.boot_id()
    two.plug()
    assert not two.running
    assert not two.shell.answers()
    two.boot()
    assert two.ssh("cat /root/file").out == "kept\n"
    assert two.ssh("cat /etc/machine-id").out == machine
    assert two.boot_id() != boot
    assert "covey/web" in two.docker("images").out


def test_power_off_lets_services_stop(hosts: list[Host]) -> None:
    two = hosts[1]
    unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStop=/bin/touch /root/stopped\n"
    two.ssh("cat > /run/systemd/system/probe.service && systemctl start probe.service", stdin=unit)
    two.power_off()
    assert not two.running
    two.boot()
    assert two.ssh("test -e /root/stopped", check=False).ok


def test_a_reboot_leaves_nothing_of_the_old_network(hosts: list[Host]) -> None:
    two = hosts[1]
    boot = two.boot_id()
    two.ssh("ip link add left-over type bridge && iptables -A INPUT -s 192.0.2.1 -j DROP")
    two.reboot()
    assert two.boot_id() != boot
    assert not two.ssh("ip link show left-over", check=False).ok
    assert "192.0.2.1" not in two.ssh("iptables -S").out


def test_a_cut_link_is_cut_and_mended(lab: Lab, hosts: list[Host]) -> None:
    one, two, three = hosts
    lab.cut("one", "two")
    assert not reaches(one, two)
    assert not reaches(two, one)
    assert reaches(one, three)
    lab.mend("one", "two")
    wait_until(lambda: reaches(one, two), 10, "one to reach two again")


def test_a_host_cut_off_from_all_still_answers_us(lab: Lab, hosts: list[Host]) -> None:
    one, two, three = hosts
    lab.cut("one")
    assert not reaches(two, one)
    assert not reaches(one, three)
    assert reaches(two, three)
    assert one.ssh("true").ok


def test_a_link_cut_one_way_lets_the_other_way_through(lab: Lab, hosts: list[Host]) -> None:
    one, two, _ = hosts
    lab.cut("one", "two", one_way=True)
    for source, target in ((one, two), (two, one)):  # resolving an address needs both ways
        mac = target.ssh("cat /sys/class/net/eth0/address").out.strip()
        source.ssh(f"ip neigh replace {target.address} lladdr {mac} dev eth0 nud permanent")
    before = echoes(one), echoes(two)
    assert not reaches(one, two)
    assert not reaches(two, one)
    assert (echoes(one), echoes(two)) == (before[0] + 1, before[1])
    one.ssh(f"ip neigh del {two.address} dev eth0")
    two.ssh(f"ip neigh del {one.address} dev eth0")


def echoes(host: Host) -> int:
    """How many pings have arrived at the host."""
    names, values = host.ssh("grep ^Icmp: /proc/net/snmp").out.splitlines()
    return int(dict(zip(names.split(), values.split(), strict=True))["InEchos"])


def test_a_paused_unit_stands_still_and_goes_on(hosts: list[Host]) -> None:
    one = hosts[0]
    one.ssh("systemd-run --unit=ticker sh -c 'while sleep .05; do date +%s%N > /run/tick; done'")
    wait_until(lambda: one.ssh("cat /run/tick", check=False).ok, 5, "the ticker")
    one.pause("ticker.service")
    stopped = one.ssh("sleep .3; cat /run/tick").out
    assert one.ssh("sleep .3; cat /run/tick").out == stopped
    one.resume("ticker.service")
    wait_until(lambda: one.ssh("cat /run/tick").out != stopped, 5, "the ticker to go on")
    one.ssh("systemctl stop ticker.service")


def test_a_host_can_stand_still_as_a_whole(hosts: list[Host]) -> None:
    one, two, _ = hosts
    one.pause()
    assert not one.shell.answers()
    assert two.ssh("true").ok
    one.resume()
    wait_until(one.shell.answers, 10, "one to go on")
    assert one.ssh("true").ok


def test_a_frozen_host_can_lose_its_power(hosts: list[Host]) -> None:
    three = hosts[2]
    three.pause()
    three.plug()
    assert not three.running
    three.boot()


def test_a_small_disk_runs_full_and_is_freed(lab: Lab) -> None:
    (host,) = lab.up(["small"], "virgin", small={"/var/lib/covey": "8M"})
    host.fill("/var/lib/covey")
    full = host.ssh("echo more > /var/lib/covey/file", check=False)
    assert "No space left" in full.err
    assert host.ssh("echo elsewhere > /root/file").ok
    host.plug()
    host.boot()
    assert not host.ssh("echo more > /var/lib/covey/file", check=False).ok
    host.free("/var/lib/covey")
    assert host.ssh("echo more > /var/lib/covey/file").ok
    with pytest.raises(LabError, match="no small file system"):
        host.fill("/")
    lab.remove(["small"])


def test_a_virgin_host_has_no_docker_and_a_wipe_makes_it_virgin_again(lab: Lab) -> None:
    (host,) = lab.up(["bare"], "virgin")
    assert not host.ssh("command -v docker", check=False).ok
    assert host.ssh("python3 --version").out.startswith("Python 3.11")
    machine = host.ssh("cat /etc/machine-id; touch /root/file").out
    (again,) = lab.fresh(["bare"], "virgin")
    assert not again.ssh("test -e /root/file", check=False).ok
    assert again.ssh("cat /etc/machine-id").out != machine
    lab.remove(["bare"])


def test_downloaded_packages_are_kept_for_the_next_host(lab: Lab) -> None:
    (host,) = lab.up(["loader"], "virgin", nat=True)
    install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends bc >/dev/null 2>&1 && echo 6*7 | bc"
    assert host.ssh(install, timeout=300).out == "42\n"
    (again,) = lab.fresh(["loader"], "virgin")
    assert not again.ssh("command -v bc", check=False).ok
    assert again.ssh("ls /var/cache/apt/archives/bc_*.deb").ok
    lab.remove(["loader"])


def test_hosts_pull_from_the_registry_by_its_digest(lab: Lab, hosts: list[Host], registry: Registry) -> None:
    image = next(image for image in images(lab.places) if image.name == "covey/web" and image.tag == "2")
    reference = registry.reference(image.name, image.tag)
    hosts[0].docker("pull", "-q", reference)
    found = hosts[0].docker("image", "inspect", "-f", "{{.Id}} {{index .RepoDigests 0}}", reference).out.split()
    assert found == [image.id, f"{registry.address}/{image.name}@{digest(image.manifest)}"]


def test_a_registry_that_is_down_refuses_and_comes_back(hosts: list[Host], registry: Registry) -> None:
    reference = registry.reference("covey/busybox", "1")
    registry.stop()
    assert "connection refused" in hosts[1].docker("pull", reference, check=False).err
    registry.start()
    assert hosts[1].docker("pull", reference).ok


def test_the_web_image_answers_on_a_host_port_and_ends_at_once(hosts: list[Host]) -> None:
    one = hosts[0]
    one.docker("run", "-d", "--name", "web", "--hostname", "me", "-p", "80:8080", "covey/web:1")
    curl = ["curl", "-sf", "--max-time", "1", f"http://{one.address}/"]
    answer = functools.partial(subprocess.run, curl, capture_output=True, text=True, check=False)
    wait_until(lambda: answer().stdout == "me 1\n", 5, "the web container to answer")
    began = time.monotonic()
    one.docker("stop", "web")
    assert time.monotonic() - began < 5
    assert one.docker("inspect", "-f", "{{.State.ExitCode}}", "web").out == "0\n"
    one.docker("rm", "web")


def test_files_and_directories_are_put_as_they_are(hosts: list[Host], tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/script").write_bytes(b"\0binary")
    (tmp_path / "deep/script").chmod(0o750)
    hosts[0].put(tmp_path, "/tmp/there")
    hosts[0].put(tmp_path / "deep/script", "/tmp/one file")
    assert hosts[0].ssh("stat -c '%a %s' /tmp/there/deep/script '/tmp/one file'").out == "750 7\n750 7\n"


def test_a_failed_command_raises_with_host_and_output(hosts: list[Host]) -> None:
    with pytest.raises(LabError, match=r"one: exit 7: echo no; exit 7\nno"):
        hosts[0].ssh("echo no; exit 7")


def test_the_inventory_works_for_ansible(hosts: list[Host], tmp_path: Path) -> None:
    file = tmp_path / "inventory.yml"
    file.write_text(inventory(hosts, ["one", "two"]))
    command = ["ansible", "covey_managers:covey_workers", "-i", str(file), "-m", "ping", "-o"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.count("SUCCESS") == len(hosts), done.stdout + done.stderr


def test_journals_of_a_host_that_is_off_are_collected(lab: Lab, hosts: list[Host], tmp_path: Path) -> None:
    hosts[2].ssh("systemd-cat -t probe echo last words; journalctl --sync")
    hosts[2].plug()
    collect(lab, tmp_path)
    assert "last words" in (tmp_path / "three/journal.log").read_text()
    assert "does not answer" in (tmp_path / "three/containers.txt").read_text()
    assert "CONTAINER ID" in (tmp_path / "one/containers.txt").read_text()
    hosts[2].boot()

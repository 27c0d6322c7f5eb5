# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml on hosts that have nothing, again, with one host more, and reset.yml: as if nothing had been there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from covey_lab.host import Host
from covey_lab.lab import Lab
from covey_lab.registry import Registry
from covey_lab.waiting import wait_until
from covey_shows.cluster import Artifact, Cluster

pytestmark = pytest.mark.lab

#: What reset must leave as it was.  Package lists, logs and caches live on; so does what boot itself changes.
SNAPSHOT = r"""
echo '# units'; systemctl list-unit-files --no-legend --no-pager | awk '{print $1, $2}' | sort
echo '# networks'; ip -o link | sed -E 's/^[0-9]+: //; s/@.*//; s/:.*//' | sort
ip -o -4 addr | awk '{print $2, $4}' | sort
echo '# mounts'; findmnt -rno TARGET | sort
echo '# rules'; (iptables-save; ip6tables-save) 2>/dev/null | grep -v '^#' | sed -E 's/\[[0-9]+:[0-9]+\]//' | sort
echo '# packages'; dpkg-query -Wf '${Package} ${Status}\n' | sort
echo '# groups'; getent group | sort
echo '# processes'; ps -eo comm= | grep -E 'docker|containerd|covey' | sort
echo '# files'; find /etc /opt /usr/local /usr/lib/python3 /root /srv /run/covey /var/lib /var/cache/covey -xdev \
  -not -path '/var/lib/apt/*' -not -path '/var/lib/dpkg/*' -not -path '/root/.ansible*' -not -path '/root/.ssh*' \
  -not -path '/var/lib/systemd/*' -not -name '*-' -not -name '*.pyc' -not -name __pycache__ \
  -not -path '/etc/ld.so.cache' 2>/dev/null | sort
"""


def snapshot(host: Host) -> list[str]:
    return host.ssh("bash -s", stdin=SNAPSHOT).out.splitlines()


@pytest.fixture(scope="module")
def cluster(lab: Lab, registry: Registry, artifact: Artifact) -> Iterator[Cluster]:
    names = ["alpha", "beta", "gamma"]
    lab.fresh(names, "virgin", nat=True)
    yield Cluster(lab, artifact, names, ["alpha"], registry)
    lab.remove(names)


def service(cluster: Cluster) -> dict[str, object]:
    return {"name": "web", "image": cluster.image(), "replicas": 3}


def test_from_nothing_to_a_cluster_and_back(cluster: Cluster) -> None:
    before = {host.name: snapshot(host) for host in cluster.hosts}
    cluster.variables["covey_services"] = [service(cluster)]

    everybody, cluster.names = cluster.names, ["alpha", "beta"]
    checked = cluster.site("--check")
    assert not any(checked.failed.values())
    assert {host.name: snapshot(host) for host in cluster.hosts} == {name: before[name] for name in cluster.names}

    first = cluster.site("-vvv")
    assert "SWMTKN" not in first.output
    assert "PRIVATE KEY" not in first.output
    assert set(cluster.nodes()) == {"alpha", "beta"}
    assert len(cluster.tasks("web")) == 3

    second = cluster.site()
    assert second.changed == {"alpha": 0, "beta": 0}

    cluster.names = everybody
    third = cluster.site()
    assert third.changed["alpha"] == 0 == third.changed["beta"]
    assert third.changed["gamma"] > 0
    assert set(cluster.nodes()) == set(everybody)

    refused = cluster.play("reset", check=False)
    assert refused.code != 0, "reset must not take a cluster down without being asked twice"
    cluster.play("reset", variables={"covey_confirm": "yes"})
    for host in cluster.hosts:
        assert snapshot(host) == before[host.name]
    again = cluster.play("reset", variables={"covey_confirm": "yes"})
    assert not any(again.changed.values())


def test_three_managers_from_nothing(cluster: Cluster) -> None:
    cluster.lab.fresh(cluster.names, "virgin", nat=True)
    cluster.managers = list(cluster.names)
    cluster.variables["covey_services"] = [service(cluster)]
    cluster.site()
    nodes = cluster.nodes().values()
    assert sorted(node["ManagerStatus"]["Reachability"] for node in nodes) == ["reachable"] * 3
    assert len(cluster.tasks("web")) == 3
    again = cluster.site()
    assert not any(again.changed.values())
    wait_until(lambda: len(cluster.tasks("web")) == 3, 10, "the second run to have left the service alone")

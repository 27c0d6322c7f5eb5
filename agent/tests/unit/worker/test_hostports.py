# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter follows the containers that run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

import pytest
from builders import S
from house import IMAGE, NODE, House

from covey.executor.base import Container, ContainerState
from covey.model.objects import Task, TaskStatus
from covey.model.spec import ContainerSpec, PortConfig, TaskSpec
from covey.network.hostports import HostPort
from covey.network.kernel import KernelRefused
from covey.worker.hostports import wanted


class Packets:
    """A packet filter in memory."""

    def __init__(self) -> None:
        self.ports: set[HostPort] = set()
        self.applied = 0
        self.trouble = ""

    async def apply(self, wanted: Iterable[HostPort]) -> None:
        if self.trouble:
            raise KernelRefused(self.trouble)
        self.ports, self.applied = set(wanted), self.applied + 1

    async def clear(self) -> None:
        self.ports.clear()


@pytest.fixture
def packets(house: House) -> Packets:
    house.packets = Packets()
    return house.packets


TASK = Task(
    id="t1",
    service_id="s1",
    service_name="web",
    slot=1,
    node_id=NODE,
    spec=TaskSpec(container_spec=ContainerSpec(image=IMAGE)),
    status=TaskStatus(state=S.ASSIGNED),
    desired_state=S.RUNNING,
    ports=(PortConfig(target_port=80, published_port=8080),),
)
OPEN = {HostPort("tcp", 8080, "172.17.0.2", 80)}


async def run_it(house: House) -> None:
    house.managers.put(TASK)
    await house.managers.until_state("t1", S.RUNNING)
    await asyncio.sleep(0.2)


async def test_a_port_is_open_while_its_container_runs(house: House, packets: Packets) -> None:
    async with house.agent():
        await run_it(house)
        assert packets.ports == OPEN
        house.engine.exit("t1", 1)
        await asyncio.sleep(0.2)
        assert packets.ports == set()


async def test_what_does_not_concern_ports_costs_nothing(house: House, packets: Packets) -> None:
    async with house.agent():
        await run_it(house)
        applied = packets.applied
        for output in "abcde":
            house.engine.set_health("t1", "healthy", output)
            await asyncio.sleep(0.1)
        assert packets.applied == applied


async def test_it_stays_while_engine_or_agent_are_away(house: House, packets: Packets) -> None:
    async with house.agent():
        await run_it(house)
        house.engine.engine_down()
        await asyncio.sleep(100)
        assert packets.ports == OPEN
    assert packets.ports == OPEN
    async with house.agent():
        await asyncio.sleep(100)
        assert packets.ports == OPEN


async def test_an_agent_that_comes_back_goes_by_what_it_sees(house: House, packets: Packets) -> None:
    async with house.agent():
        await run_it(house)
    house.engine.exit("t1", 1)
    async with house.agent():
        await asyncio.sleep(1)
    assert packets.ports == set()


async def test_the_rules_are_looked_at_when_the_engine_is_back_and_now_and_then(house: House, packets: Packets) -> None:
    async with house.agent():
        await run_it(house)
        packets.ports.clear()
        house.engine.engine_up()
        await asyncio.sleep(0.2)
        assert packets.ports == OPEN
        packets.ports.clear()
        await asyncio.sleep(31)
        assert packets.ports == OPEN


async def test_a_packet_filter_that_refuses_is_told_once(
    house: House, packets: Packets, caplog: pytest.LogCaptureFixture
) -> None:
    packets.trouble = "iptables-save cannot be run"
    with caplog.at_level(logging.WARNING):
        async with house.agent():
            await run_it(house)
            await asyncio.sleep(100)
            assert [record.getMessage() for record in caplog.records if packets.trouble in record.getMessage()] == [
                "published ports pause while the container engine restarts: iptables-save cannot be run"
            ]
            packets.trouble = ""
            await asyncio.sleep(31)
    assert packets.ports == OPEN


def test_only_what_is_open_on_every_address_is_ours() -> None:
    port = PortConfig(protocol="tcp", target_port=80, published_port=8080)
    narrow = Container("c1", "t1", "web.1", ContainerState.RUNNING, ports=(port,), address="172.17.0.2")
    assert wanted([narrow]) == set()
    assert wanted([replace(narrow, open_to_all=(port,))]) == OPEN
    assert wanted([replace(narrow, open_to_all=(port,), state=ContainerState.EXITED)]) == set()

# SPDX-License-Identifier: GPL-3.0-or-later
"""How a worker finds the managers, keeps to the one that leads, and loses no word."""

from __future__ import annotations

import asyncio

import pytest
from builders import S, replace
from house import IMAGE, NODE, House
from managers import MANAGERS, PERIOD, now

from covey.model.objects import NodeTLS, Task, TaskStatus
from covey.model.session import (
    CertificateWanted,
    HeartbeatAck,
    ManagerAddress,
    ManagersChanged,
    Redirect,
    Refused,
    RoleWanted,
    RootChanged,
    Welcome,
)
from covey.model.spec import ContainerSpec, Role, TaskSpec


def task(number: int = 1) -> Task:
    return Task(
        id=f"t{number}",
        service_id="s1",
        service_name="web",
        slot=number,
        node_id=NODE,
        spec=TaskSpec(container_spec=ContainerSpec(image=IMAGE)),
        status=TaskStatus(state=S.ASSIGNED),
    )


def sessions(house: House) -> int:
    return house.managers.sessions


async def joined(house: House, count: int = 1) -> float:
    return await house.managers.until(lambda: sessions(house) == count)


async def test_a_session_begins_with_the_hosts_facts_and_beats_each_period(house: House) -> None:
    async with house.agent() as worker:
        await joined(house)
        assert house.managers.hellos == [house.engine.description]
        assert (worker.standing.manager, worker.standing.error) == ("a:2377", "")
        await asyncio.sleep(4 * PERIOD + 0.5)
        first = house.managers.heartbeats[0]
        assert house.managers.heartbeats == [first + n * PERIOD for n in range(5)]


async def test_a_follower_names_the_leader_and_no_time_is_lost(house: House) -> None:
    house.managers.leader = "c:2377"
    async with house.agent():
        assert await joined(house) == 0.0
        assert [address for _, address in house.managers.connects] == ["a:2377", "c:2377"]


async def test_followers_that_send_one_around_in_circles_are_not_asked_without_end(house: House) -> None:
    house.managers.answer = Redirect(leader=MANAGERS[1], managers=MANAGERS)
    async with house.agent():
        await asyncio.sleep(60)
        assert 20 < len(house.managers.connects) < 200


async def test_the_leader_dies_and_the_new_one_is_found_within_a_second(house: House) -> None:
    async with house.agent():
        await joined(house)
        await asyncio.sleep(10)
        began = now()
        house.managers.lose()
        house.managers.leader = "b:2377"
        await joined(house, 2)
        assert now() - began < 1


async def test_an_election_that_takes_a_while_is_waited_for(house: House) -> None:
    async with house.agent() as worker:
        await joined(house)
        house.managers.lose()
        house.managers.leader = None
        await asyncio.sleep(10)
        assert "nobody" in worker.standing.error or "refused" in worker.standing.error
        began = now()
        house.managers.leader = "c:2377"
        await joined(house, 2)
        assert now() - began < 4


async def test_a_leader_whose_plug_was_pulled_is_left_after_three_periods(house: House) -> None:
    async with house.agent():
        await joined(house)
        await asyncio.sleep(PERIOD)
        began = now()
        house.managers.mute.add("a:2377")
        house.managers.unreachable.add("a:2377")
        house.managers.leader = "b:2377"
        await house.managers.until(lambda: house.managers.session is not None and sessions(house) == 2)
        assert 2 * PERIOD < now() - began < 3 * PERIOD + 1


async def test_a_doubt_finds_the_new_leader_sooner(house: House) -> None:
    async with house.agent() as worker:
        await joined(house)
        await asyncio.sleep(PERIOD / 2)
        began = now()
        house.managers.mute.add("a:2377")
        house.managers.leader = "b:2377"
        worker.leader_changed()
        await house.managers.until(lambda: sessions(house) == 2)
        assert now() - began < 1.5


async def test_a_doubt_about_a_leader_that_answers_changes_nothing(house: House) -> None:
    async with house.agent() as worker:
        await joined(house)
        worker.leader_changed()
        await asyncio.sleep(10)
        assert sessions(house) == 1


async def test_every_status_is_told_again_in_a_new_session(house: House) -> None:
    async with house.agent():
        house.managers.put(task(1), task(2))
        await house.managers.until_state("t2", S.RUNNING)
        house.managers.reports.clear()
        assert house.managers.session is not None
        house.managers.session.end()
        await house.managers.until_state("t1", S.RUNNING, limit=1)
        await house.managers.until_state("t2", S.RUNNING, limit=1)


async def test_a_status_nobody_acknowledged_is_told_again_with_a_higher_number(house: House) -> None:
    async with house.agent():
        house.managers.put(task())
        await house.managers.until_state("t1", S.RUNNING)
        house.managers.acknowledging = False
        house.engine.exit("t1", 1)
        await house.managers.until_state("t1", S.FAILED)
        first = house.managers.reports[-1][1]
        house.managers.acknowledging = True
        await house.managers.until(lambda: house.managers.reports[-1][1].sequence > first.sequence)
        again = house.managers.reports[-1][1]
        assert again.statuses == first.statuses
        count = len(house.managers.reports)
        await asyncio.sleep(60)
        assert len(house.managers.reports) == count


async def test_a_storm_of_statuses_is_told_in_few_reports(house: House) -> None:
    async with house.agent():
        await joined(house)
        house.managers.put(*(task(number) for number in range(1, 31)))
        for number in range(1, 31):
            await house.managers.until_state(f"t{number}", S.RUNNING)
        assert len(house.managers.reports) <= 3


async def test_a_gap_in_the_assignments_begins_a_new_session(house: House) -> None:
    async with house.agent():
        await joined(house)
        assert house.managers.session is not None
        house.managers.session.assignments(tasks=(task(),), skip=1)
        await joined(house, 2)
        assert house.engine.called("create") == []


async def test_the_managers_are_remembered_over_a_restart(house: House) -> None:
    moved = (ManagerAddress(node_id="x", address="x:2377"), ManagerAddress(node_id="b", address="b:2377"))
    async with house.agent():
        await joined(house)
        assert house.managers.session is not None
        house.managers.session.say(ManagersChanged(managers=moved))
        await asyncio.sleep(1)
    assert house.book.load_managers() == moved
    house.managers.absent.update({"a:2377", "x:2377"})
    house.managers.leader = "b:2377"
    async with house.agent():
        await joined(house, 2)


async def test_the_wanted_role_reaches_the_daemon(house: House) -> None:
    async with house.agent():
        await joined(house)
        assert house.managers.session is not None
        house.managers.session.say(RoleWanted(role=Role.MANAGER))
        await asyncio.sleep(1)
    assert house.roles == [Role.MANAGER]


async def test_a_removed_node_hears_it_keeps_its_containers_and_asks_seldom(house: House) -> None:
    async with house.agent() as worker:
        house.managers.put(task())
        await house.managers.until_state("t1", S.RUNNING)
        house.managers.answer = Refused(reason="node node1 was removed", final=True)
        assert house.managers.session is not None
        house.managers.session.end()
        asked = len(house.managers.connects)
        await asyncio.sleep(120)
        assert "node node1 was removed" in worker.standing.error
        assert 4 < len(house.managers.connects) - asked < 10
        assert house.refusals[0] == "node node1 was removed"
        assert house.engine.running() == ["t1"]


async def test_a_refusal_for_now_is_asked_again(house: House) -> None:
    house.managers.answer = Refused(reason="too many sessions")
    async with house.agent() as worker:
        await asyncio.sleep(5)
        assert worker.standing.error == "manager a:2377: too many sessions"
        house.managers.answer = None
        await house.managers.until(lambda: house.managers.session is not None)
    assert house.refusals == []


async def test_a_dismissal_in_the_middle_of_a_session_is_followed(house: House) -> None:
    async with house.agent():
        await joined(house)
        assert house.managers.session is not None
        house.managers.leader = "b:2377"
        began = now()
        house.managers.session.say(Redirect(leader=MANAGERS[1], managers=MANAGERS))
        await joined(house, 2)
        assert now() == began


async def test_an_answer_that_is_no_answer_ends_the_session(house: House) -> None:
    house.managers.answer = HeartbeatAck()
    async with house.agent() as worker:
        await asyncio.sleep(5)
        assert "it began with HeartbeatAck; this agent speaks protocol 1" in worker.standing.error


async def test_no_session_begins_before_the_engine_was_ever_asked(house: House) -> None:
    house.engine.engine_down()
    async with house.agent():
        await asyncio.sleep(60)
        assert sessions(house) == 0
        house.engine.engine_up()
        await joined(house)


async def test_a_silent_engine_does_not_keep_a_known_host_from_its_managers(house: House) -> None:
    async with house.agent():
        await joined(house)
        await asyncio.sleep(1)
    house.engine.engine_down()
    async with house.agent():
        await joined(house, 2)
        assert house.managers.hellos[1] == house.engine.description


async def test_without_a_manager_to_ask_it_says_so(house: House) -> None:
    house.seeds = ()
    async with house.agent() as worker:
        await asyncio.sleep(10)
        assert worker.standing.error == "no manager's address is known"


async def test_who_managed_when_it_joined_has_no_say_once_it_knows_who_does_now(house: House) -> None:
    """It may have been removed since, and its certificate holds on."""
    joined_by, now_there, named = (ManagerAddress(node_id=id_, address=f"{id_}:2377") for id_ in ("a", "b", ""))
    house.seeds = (joined_by, named)
    house.book.save_managers((now_there,))
    house.managers.absent.update(one.address for one in (joined_by, now_there, named))
    async with house.agent():
        await asyncio.sleep(60)
    assert {address for _, address in house.managers.connects} == {now_there.address, named.address}


@pytest.mark.parametrize("count", [1, 3])
async def test_silence_everywhere_is_no_busy_loop(house: House, count: int) -> None:
    house.seeds = MANAGERS[:count]
    house.managers.absent.update(one.address for one in MANAGERS)
    async with house.agent():
        await asyncio.sleep(100)
        assert 40 < len(house.managers.connects) < 120


async def test_an_assignment_repeated_after_a_reconnection_changes_nothing(house: House) -> None:
    async with house.agent():
        house.managers.put(task())
        await house.managers.until_state("t1", S.RUNNING)
        house.managers.tasks["t1"] = replace(task(), status=TaskStatus(state=S.RUNNING), version=9)
        assert house.managers.session is not None
        house.managers.session.end()
        await house.managers.until(lambda: sessions(house) == 2)
        await asyncio.sleep(60)
        assert [len(house.engine.called(name)) for name in ("create", "start", "stop")] == [1, 1, 0]


async def test_an_agent_told_to_stop_in_the_moment_its_session_breaks_does_stop(house: House) -> None:
    async with house.agent():
        await joined(house)
        house.managers.lose()


async def test_a_manager_of_before_a_recovery_has_no_say(house: House) -> None:
    house.managers.epochs["b:2377"] = 7
    house.managers.leader = "b:2377"
    async with house.agent():
        await joined(house)
    assert (house.book.load_epoch(), house.epochs) == (7, [7])
    house.managers.put(task())
    house.managers.leader = "a:2377"
    async with house.agent():
        await house.managers.until(lambda: house.managers.sessions >= 3)
        await asyncio.sleep(5)
        assert house.engine.called("create") == []
        house.managers.leader = "b:2377"
        await house.managers.until_state("t1", S.RUNNING)


async def test_with_a_renewed_certificate_the_session_moves_and_nothing_else_happens(house: House) -> None:
    async with house.agent() as worker:
        house.managers.put(task())
        await house.managers.until_state("t1", S.RUNNING)
        first = house.managers.session
        worker.certificate_changed(moves=True)
        began = now()
        await joined(house, 2)
        assert now() == began
        assert house.managers.session is not first
        assert worker.standing.error == ""
        await asyncio.sleep(60)
        assert sessions(house) == 2
        assert [len(house.engine.called(name)) for name in ("create", "start", "stop")] == [1, 1, 0]


async def test_the_old_connection_serves_until_the_new_one_stands(house: House) -> None:
    async with house.agent() as worker:
        await joined(house)
        house.managers.absent.add("a:2377")
        worker.certificate_changed(moves=True)
        await asyncio.sleep(3.5 * PERIOD)
        assert sessions(house) == 1
        assert len(house.managers.heartbeats) >= 4
        assert worker.standing.error == ""
        house.managers.absent.clear()
        await joined(house, 2)


async def test_a_session_that_is_lost_while_it_should_move_begins_anew_once(house: House) -> None:
    async with house.agent() as worker:
        await joined(house)
        house.managers.absent.add("a:2377")
        worker.certificate_changed(moves=True)
        await asyncio.sleep(1)
        house.managers.leader = "b:2377"
        house.managers.lose()
        await joined(house, 2)
        await asyncio.sleep(60)
        assert sessions(house) == 2


async def test_a_refusal_for_good_stands_until_a_session_does(house: House) -> None:
    house.managers.answer = Refused(reason="node node1 was removed", final=True)
    async with house.agent() as worker:
        await asyncio.sleep(1)
        house.managers.absent.update(one.address for one in MANAGERS)
        await asyncio.sleep(60)
        assert worker.standing.refusal == "node node1 was removed"
        house.managers.absent.clear()
        house.managers.answer = None
        await joined(house)
        assert worker.standing.refusal == ""


async def test_a_restart_is_announced_to_the_manager_of_the_session(house: House) -> None:
    async with house.agent() as worker:
        await joined(house)
        began = now()
        await worker.announce_restart(30.0)
        assert (house.managers.restarts, now()) == ([30.0], began)


async def test_a_manager_that_does_not_note_it_holds_up_the_restart_for_a_moment_only(house: House) -> None:
    async with house.agent() as worker:
        await joined(house)
        house.managers.mute.add("a:2377")
        began = now()
        await worker.announce_restart(30.0)
        assert now() - began <= 2.0


async def test_without_a_session_a_restart_is_announced_to_nobody(house: House) -> None:
    house.managers.absent = {"a:2377", "b:2377", "c:2377"}
    async with house.agent() as worker:
        await asyncio.sleep(5)
        began = now()
        await worker.announce_restart(30.0)
        assert (house.managers.restarts, now()) == ([], began)


async def test_a_manager_that_insists_on_another_protocol_is_not_listened_to(house: House) -> None:
    house.managers.answer = Welcome(session_id="s", heartbeat_period=PERIOD, managers=MANAGERS, protocol=2)
    async with house.agent() as worker:
        await asyncio.sleep(5)
        assert "it speaks protocol 2, this agent 1 to 1" in worker.standing.error
        assert house.managers.heartbeats == []


async def test_what_managers_say_of_certificates_reaches_the_daemon(house: House) -> None:
    async with house.agent():
        await joined(house)
        assert house.managers.session is not None
        house.managers.session.say(CertificateWanted())
        house.managers.session.say(RootChanged(root=b"new"))
        await asyncio.sleep(1)
        assert sessions(house) == 1
    assert (house.renewals, house.roots) == ([True], [b"new"])


async def test_managers_are_told_whom_this_node_trusts_and_when_that_changes(house: House) -> None:
    house.tls = NodeTLS(trust_root=b"old")
    async with house.agent() as worker:
        await joined(house)
        assert house.managers.hellos[0].tls == house.tls
        house.tls = NodeTLS(trust_root=b"new")
        worker.certificate_changed(moves=False)
        await house.managers.until(lambda: bool(house.managers.described))
        assert [told.tls for told in house.managers.described] == [house.tls]
        assert sessions(house) == 1
        house.tls = NodeTLS(trust_root=b"newer")
        worker.certificate_changed(moves=True)
        await joined(house, 2)
        assert house.managers.hellos[1].tls == house.tls


async def test_a_manager_that_nobody_named_before_can_be_turned_to(house: House) -> None:
    house.managers.absent.update({"a:2377", "b:2377", "c:2377"})
    house.managers.leader = "new:2377"
    async with house.agent() as worker:
        await asyncio.sleep(30)
        assert house.managers.sessions == 0
        worker.turn_to([ManagerAddress(node_id="", address="new:2377")])
        await joined(house)
        assert worker.managers == MANAGERS

# SPDX-License-Identifier: GPL-3.0-or-later
"""What reaches the election core of a leader's messages, and what the leader is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.store.raft.shim import Divergence, Follower, Progress, on_append, on_chunk
from covey.store.raft.wire import Ack, Append, Beat, Chunk


class FakeLog:
    """Terms by index."""

    def __init__(self, terms, first=1):
        self.terms, self.first = list(terms), first

    @property
    def last(self):
        return self.first + len(self.terms) - 1

    def term_at(self, index):
        return self.terms[index - self.first] if self.first <= index <= self.last else None


def follower(terms, commit=1, term=9, first=1):
    return Follower(FakeLog(terms, first), term, commit)


def append(prev, prev_term, terms, commit=0, seq=5, term=9):
    entries = [(b"\x00%d" % (prev + 1 + n), prev + 1 + n, t) for n, t in enumerate(terms)]
    return Append(term, commit, seq, prev, prev_term, entries)


def success(through, seq=5):
    return Ack(9, seq, through + 1, False, True)


def rewind(to, seq=5):
    return Ack(9, seq, to, True, False)


def test_new_entries_pass():
    message = append(3, 1, [2, 2], commit=4)
    assert on_append(follower([0, 1, 1]), message).deliver == message


def test_a_heartbeat_at_the_end_passes():
    message = append(3, 1, [], commit=3)
    assert on_append(follower([0, 1, 1]), message).deliver == message


def test_a_repeated_message_truncates_nothing():
    """The hazard: 21 to 25 come again after 30 was acknowledged and committed."""
    verdict = on_append(follower([0] + [1] * 29, commit=30), append(20, 1, [1] * 5, commit=30))
    assert verdict.deliver == Beat(9, 25, 5)
    assert verdict.ack == success(25)


def test_a_heartbeat_in_the_middle_truncates_nothing_and_commits_no_further():
    verdict = on_append(follower([0, 1, 1, 1, 1]), append(3, 1, [], commit=5))
    assert verdict.deliver == Beat(9, 3, 5)
    assert verdict.ack == success(3)


def test_only_the_new_part_of_an_overlap_passes():
    verdict = on_append(follower([0, 1, 1, 1]), append(2, 1, [1, 1, 2, 2], commit=4))
    assert verdict.deliver == append(4, 1, [2, 2], commit=4)
    assert verdict.ack is None


def test_a_conflict_passes_from_the_first_entry_that_differs():
    verdict = on_append(follower([0, 1, 1, 1, 1], commit=2), append(1, 0, [1, 1, 2, 2]))
    assert verdict.deliver == append(3, 1, [2, 2])


def test_a_follower_that_is_behind_asks_for_what_it_lacks():
    verdict = on_append(follower([0, 1, 1], commit=1), append(10, 2, [2], commit=10))
    assert verdict.deliver == Beat(9, 1, 5)
    assert verdict.ack == rewind(4)


def test_a_conflicting_term_is_skipped_as_a_whole_but_not_what_is_committed():
    terms = [0, 1, 1, 2, 2, 2, 2]
    assert on_append(follower(terms, commit=2), append(6, 3, [3])).ack == rewind(4)
    assert on_append(follower(terms, commit=5), append(7, 3, [3])).ack == rewind(6)


def test_what_was_compacted_here_is_taken_for_held():
    at = follower([2, 2, 2], first=10, commit=11)
    assert on_append(at, append(4, 1, [1, 1, 1])).ack == success(7)
    assert on_append(at, append(8, 2, [2, 2, 2, 2, 3])).deliver == append(12, 2, [3])


@pytest.mark.parametrize(
    "message", [append(3, 1, [2]), append(1, 0, [2]), append(4, 2, [])], ids=["end", "middle", "previous"]
)
def test_a_leader_that_contradicts_what_is_committed_stops_us(message):
    with pytest.raises(Divergence):
        on_append(follower([0, 1, 1, 1], commit=4), message)


logs = st.lists(st.integers(0, 2), max_size=12).map(lambda steps: [sum(steps[: n + 1]) for n in range(len(steps))])


@given(common=logs, ours=logs, theirs=logs, data=st.data())
def test_whatever_a_true_leader_sends_the_log_stays_true(common, ours, theirs, data):
    """Two logs with a common, possibly committed beginning: the rules of Raft hold for every window sent."""
    base = [0, *common]
    mine = base + [base[-1] + 10 + term * 2 for term in ours]
    leader = base + [base[-1] + 11 + term * 2 for term in theirs]
    agreed = sum(1 for index in range(min(len(mine), len(leader))) if mine[: index + 1] == leader[: index + 1])
    commit = data.draw(st.integers(1, agreed))
    leader_commit = data.draw(st.integers(commit, len(leader)))
    prev = data.draw(st.integers(1, len(leader)))
    count = data.draw(st.integers(0, len(leader) - prev))
    message = append(prev, leader[prev - 1], leader[prev : prev + count], commit=leader_commit)
    verdict = on_append(follower(mine, commit=commit), message)
    after, committed = accepted(mine, verdict.deliver)
    matching = sum(1 for index in range(min(len(after), len(leader))) if after[: index + 1] == leader[: index + 1])
    assert matching >= agreed
    assert max(commit, committed) <= matching
    if after != mine:
        assert after[: len(mine)] != mine or len(after) > len(mine)
    if verdict.ack is not None and verdict.ack.success:
        assert verdict.ack.next_index - 1 <= matching
    if verdict.ack is not None and verdict.ack.reset:
        assert commit < verdict.ack.next_index <= prev + 1


def accepted(mine, message):
    """What pysyncobj makes of a message that passed."""
    if isinstance(message, Beat):
        return mine, min(message.commit, len(mine))
    after = mine[: message.prev_index] + [entry[2] for entry in message.entries]
    return after, min(message.commit, len(after))


def chunk(index, term=2, last=False, commit=100):
    return Chunk(9, commit, 5, index, term, 0, last, b"state")


@pytest.mark.parametrize("last", [False, True])
def test_a_snapshot_commits_nothing_of_our_own_tail(last):
    verdict = on_chunk(follower([0, 1, 1, 1, 1], commit=2), chunk(50, last=last))
    assert verdict.beat == Beat(9, 2, 5)
    assert verdict.take
    assert verdict.ack == Ack(9, 5, 1, False, False)


def test_a_snapshot_of_what_is_committed_here_is_not_taken():
    verdict = on_chunk(follower([0, 1, 1, 1], commit=4), chunk(3, term=1))
    assert (verdict.take, verdict.ack) == (False, success(3))


def test_a_snapshot_whose_end_is_in_our_log_is_not_taken():
    verdict = on_chunk(follower([0, 1, 1, 1], commit=1), chunk(3, term=1))
    assert (verdict.take, verdict.ack) == (False, success(3))


def test_a_snapshot_that_contradicts_our_tail_is_taken():
    assert on_chunk(follower([0, 1, 1, 1], commit=1), chunk(3, term=2)).take


def test_answers_of_another_term_do_not_count():
    assert not Progress().accepts(Ack(8, 5, 10, False, True), term=9, sent=7)


def test_answers_to_what_was_sent_before_a_rewind_do_not_rewind_again():
    progress = Progress()
    assert progress.accepts(rewind(4, seq=5), term=9, sent=7)
    assert not progress.accepts(rewind(9, seq=6), term=9, sent=8)
    assert not progress.accepts(rewind(9, seq=7), term=9, sent=8)
    assert progress.accepts(rewind(6, seq=8), term=9, sent=8)


def test_successes_count_whenever_they_come():
    progress = Progress()
    progress.accepts(rewind(4, seq=5), term=9, sent=7)
    assert progress.accepts(success(8, seq=6), term=9, sent=7)

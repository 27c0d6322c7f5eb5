# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a member is told to stand for election, and what it makes of the answers."""

import pytest

from covey.store.raft.prevote import Canvass, Standing, advise
from covey.store.raft.wire import PreVote, PreVoted

AT = Standing(term=5, last_index=20, last_term=4, led=False)
VOTERS = ("me", "a", "b", "c", "d")


@pytest.mark.parametrize(
    ("ask", "granted"),
    [
        (PreVote(6, 1, 20, 4), True),
        (PreVote(6, 1, 19, 5), True),
        (PreVote(6, 1, 19, 4), False),
        (PreVote(6, 1, 99, 3), False),
        (PreVote(5, 1, 20, 4), False),
        (PreVote(3, 1, 20, 4), False),
    ],
)
def test_who_is_as_far_and_in_a_later_term_may_stand(ask, granted):
    assert advise(AT, ask) == PreVoted(5, 1, granted)


def test_nobody_may_while_a_leader_is_heard():
    assert advise(Standing(5, 20, 4, led=True), PreVote(6, 3, 99, 5)) == PreVoted(5, 3, False)


def asking(*answers):
    canvass = Canvass()
    canvass.begin(6, 1.0)
    for node_id, answer in answers:
        canvass.note(node_id, answer)
    return canvass


def test_a_majority_of_the_voters_wins_and_strangers_do_not_count():
    yes = PreVoted(5, 1, True)
    assert not asking(("a", yes)).won(VOTERS, 6)
    assert not asking(("a", yes), ("a", yes), ("stranger", yes), ("b", PreVoted(5, 1, False))).won(VOTERS, 6)
    assert asking(("a", yes), ("b", yes)).won(VOTERS, 6)


def test_answers_of_another_round_or_for_another_term_are_void():
    yes = PreVoted(5, 1, True)
    canvass = asking(("a", yes), ("b", yes))
    assert not canvass.won(VOTERS, 7)
    canvass.begin(6, 2.0)
    canvass.note("a", yes)
    canvass.note("b", yes)
    assert not canvass.won(VOTERS, 6)


def test_answers_that_come_after_the_end_are_void():
    canvass = asking(("a", PreVoted(5, 1, True)))
    canvass.end()
    canvass.note("b", PreVoted(5, 1, True))
    canvass.note("c", PreVoted(5, 1, True))
    assert not canvass.won(VOTERS, 6)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What is replicated: a state machine that takes bytes.  The store's own one applies batches to a View."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from covey.state.apply import Outcome, apply
from covey.state.codec import Codec
from covey.state.view import View


class Machine(Protocol):
    """Deterministic, and total: whatever ``apply`` raises stops the store, since another replica may not have."""

    def apply(self, index: int, command: bytes) -> Any:
        """Take one committed command; what it returns goes to whoever proposed it here."""

    def state(self) -> Any:
        """The state now, immutable."""

    def dump(self, state: Any) -> Iterator[bytes]:
        """A ``state`` as chunks; runs in another thread."""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Be what ``dump`` dumped."""


class ViewMachine:
    """The replicated View, in the formats of one release."""

    def __init__(self, codec: Codec) -> None:
        self._view, self._codec = View(), codec

    def apply(self, index: int, command: bytes) -> Outcome:
        """Apply one batch."""
        self._view, outcome = apply(self._view, self._codec.decode_batch(command), index)
        return outcome

    def state(self) -> View:
        """The view after the last batch."""
        return self._view

    def dump(self, state: View) -> Iterator[bytes]:
        """The view's snapshot."""
        return self._codec.encode_view(state)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """The view of a snapshot."""
        self._view = self._codec.decode_view(chunks)

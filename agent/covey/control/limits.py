# SPDX-License-Identifier: GPL-3.0-or-later
"""How often something may happen for one key: an address, a node.

What it counts protects this process only and changes no decision, so it may be lost.  Never in it: the clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque

#: Keys remembered at most; the one longest quiet is forgotten first.
KEYS = 4096


class RateLimit:
    """At most ``count`` events for one key in any ``window`` seconds."""

    def __init__(self, count: int, window: float) -> None:
        self._count, self._window = count, window
        self._events: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds until another event is allowed; 0 when it is now.  Records nothing."""
        events = self._events.get(key)
        if events is None or len(events) < self._count:
            return 0.0
        return min(self._window, max(0.0, events[0] + self._window - now))

    def record(self, key: str, now: float) -> None:
        """It happened."""
        events = self._events.setdefault(key, deque(maxlen=self._count))
        events.append(now)
        self._events.move_to_end(key)
        if len(self._events) > KEYS:
            self._events.popitem(last=False)

    def take(self, key: str, now: float) -> float:
        """As ``wait``; if the answer is 0, it is recorded."""
        seconds = self.wait(key, now)
        if not seconds:
            self.record(key, now)
        return seconds

# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for something to become true on real hosts. Polling is right here and nowhere else in the project's tests."""

import time
from collections.abc import Callable
from typing import TypeVar

from covey_lab.run import LabError

T = TypeVar("T")


def wait_until(look: Callable[[], T], timeout: float, what: str, every: float = 0.1) -> T:
    """Call `look` until what it returns is true, and return that; the error tells what it last saw.

    A LabError or AssertionError in `look` means "not yet": hosts that are just booting refuse most questions.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            seen = look()
            if seen:
                return seen
            last = f"last seen: {seen!r}"
        except (LabError, AssertionError) as error:
            last = f"last error: {error}"
        if time.monotonic() > end:
            raise LabError(f"waited {timeout:g} s for {what}; {last}")
        time.sleep(every)

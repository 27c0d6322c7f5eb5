# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that go on together until the first of them ends.

Not a TaskGroup: that of Python 3.11 forgets a cancellation that comes in the moment a child fails, and who lives in a
loop around it then never stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def until_one_ends(**parts: Coroutine[None, None, object]) -> list[BaseException]:
    """Run them all; when one ends, end the others and return what any of them raised, the first one's first."""
    tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    ordered = sorted(tasks, key=lambda task: task not in ended)
    raised = (task.exception() for task in ordered if not task.cancelled())
    return [error for error in raised if error is not None]

"""Starts child processes so that a cancelled start leaves none behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Started = TypeVar("Started")


async def spawn(starting: Coroutine[Any, Any, Started], discard: Callable[[Started], None]) -> Started:
    """Return what `starting` starts; when cancelled meanwhile, raise at once and `discard` it as soon as it exists.

    The cancellation never reaches `starting` itself. asyncio does not survive it there: it neither closes the pipes of
    the new process nor returns before they are closed, so the process and the cancelled task stay (Python 3.11.7).
    """
    task = asyncio.create_task(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: None if done.exception() else discard(done.result()))
        raise

"""Starts child processes so that a cancelled start leaves none behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Started = TypeVar("Started")


async def spawn(
    starting: Coroutine[Any, Any, Started], discard: Callable[[Started], Coroutine[Any, Any, object]]
) -> Started:
    """Return what `starting` starts; when cancelled meanwhile, `discard` it and return only then.

    The cancellation never reaches `starting` itself. asyncio does not survive it there: it neither closes the pipes of
    the new process nor returns before they are closed, so the process and the cancelled task stay (Python 3.11.7).
    """
    task = asyncio.create_task(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.create_task(_discard(task, discard)))
        raise


async def _discard(task: asyncio.Task[Started], discard: Callable[[Started], Coroutine[Any, Any, object]]) -> None:
    await asyncio.wait({task})
    if task.exception() is None:
        await discard(task.result())

"""Starts child processes so that a cancelled start leaves none behind."""

from __future__ import annotations

import asyncio
import errno
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Started = TypeVar("Started")
NO_THREAD = "can't start new thread"
"""what a RuntimeError of `threading` says where the machine has none left"""


async def spawn(
    starting: Coroutine[Any, Any, Started], discard: Callable[[Started], Coroutine[Any, Any, object]]
) -> Started:
    """Return what `starting` starts; when cancelled meanwhile, `discard` it and return only then.

    The cancellation never reaches `starting` itself. asyncio does not survive it there: it neither closes the pipes of
    the new process nor returns before they are closed, so the process and the cancelled task stay (Python 3.11.7).

    Raises:
        OSError: it does not start; with EAGAIN if asyncio got no thread to wait for it, and the process is killed.
    """
    task = asyncio.create_task(_with_thread(starting))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.create_task(_discard(task, discard)))
        raise


async def _with_thread(starting: Coroutine[Any, Any, Started]) -> Started:
    try:
        return await starting
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        _kill_started(error)
        raise OSError(errno.EAGAIN, NO_THREAD) from error


def _kill_started(error: RuntimeError) -> None:
    """Kill the process that asyncio started and then gave up: only the frames of the error still know it."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, asyncio.SubprocessTransport):
                value.close()


async def _discard(task: asyncio.Task[Started], discard: Callable[[Started], Coroutine[Any, Any, object]]) -> None:
    await asyncio.wait({task})
    if task.exception() is None:
        await discard(task.result())

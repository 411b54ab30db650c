"""The bell: whoever listens hears, however late it listens to what it heard; nobody else is woken."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.bus.local import Bell

pytestmark = pytest.mark.anyio


async def test_a_ring_before_the_wait_is_not_lost() -> None:
    bell = Bell()
    with bell.listen() as ear:
        bell.ring()
        assert await ear.wait(0)


async def test_many_rings_wake_once() -> None:
    bell = Bell()
    with bell.listen() as ear:
        bell.ring()
        bell.ring()
        assert await ear.wait(None)
        assert not await ear.wait(0.001)


async def test_a_ring_wakes_everyone_who_sleeps() -> None:
    bell = Bell()
    ready = asyncio.Event()
    sleeping: list[int] = []

    async def sleep(number: int) -> int:
        with bell.listen() as ear:
            sleeping.append(number)
            if len(sleeping) == 50:
                ready.set()
            assert await ear.wait(10)
            return number

    tasks = [asyncio.create_task(sleep(number)) for number in range(50)]
    await ready.wait()
    bell.ring()
    assert await asyncio.gather(*tasks) == list(range(50))


async def test_a_time_out_is_told_from_a_ring() -> None:
    bell = Bell()
    with bell.listen() as ear:
        assert not await ear.wait(0)
        bell.ring()
        assert await ear.wait(0.001)


async def test_who_has_left_is_forgotten_and_who_is_cancelled_too() -> None:
    bell = Bell()
    started = asyncio.Event()

    async def sleep() -> None:
        with bell.listen() as ear:
            started.set()
            await ear.wait(None)

    task = asyncio.create_task(sleep())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not bell._listeners
    bell.ring()


async def test_one_listener_takes_no_ring_from_another() -> None:
    bell = Bell()
    with bell.listen() as one, bell.listen() as two:
        bell.ring()
        assert await one.wait(0)
        assert await two.wait(0)


async def test_a_tuned_ear_hears_only_rings_about_its_names_and_those_about_everyone() -> None:
    bell = Bell()
    with bell.listen() as ear:
        ear.tune({"a", "b"})
        bell.ring({"c"})
        assert not await ear.wait(0)
        bell.ring({"b", "c"})
        assert await ear.wait(0)
        assert ear.heard() == {"b", "c"}
        bell.ring()
        assert await ear.wait(0)
        assert ear.heard() is None


async def test_what_rang_before_the_ear_was_tuned_is_not_lost() -> None:
    bell = Bell()
    with bell.listen() as ear:
        bell.ring({"a"})
        ear.tune({"b"})
        assert await ear.wait(0)
        assert ear.heard() == {"a"}
        assert ear.heard() == set()

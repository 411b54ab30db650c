"""Notifications reach every subscriber that they concern, however late it waits, and wake nobody else."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.bus.local import Notifier

pytestmark = pytest.mark.anyio


async def test_a_ring_before_the_wait_is_not_lost() -> None:
    notifier = Notifier()
    with notifier.subscribe() as subscription:
        notifier.publish()
        assert await subscription.wait(0)


async def test_many_rings_wake_once() -> None:
    notifier = Notifier()
    with notifier.subscribe() as subscription:
        notifier.publish()
        notifier.publish()
        assert await subscription.wait(None)
        assert not await subscription.wait(0.001)


async def test_a_ring_wakes_everyone_who_sleeps() -> None:
    notifier = Notifier()
    ready = asyncio.Event()
    sleeping: list[int] = []

    async def sleep(number: int) -> int:
        with notifier.subscribe() as subscription:
            sleeping.append(number)
            if len(sleeping) == 50:
                ready.set()
            assert await subscription.wait(10)
            return number

    tasks = [asyncio.create_task(sleep(number)) for number in range(50)]
    await ready.wait()
    notifier.publish()
    assert await asyncio.gather(*tasks) == list(range(50))


async def test_a_time_out_is_told_from_a_ring() -> None:
    notifier = Notifier()
    with notifier.subscribe() as subscription:
        assert not await subscription.wait(0)
        notifier.publish()
        assert await subscription.wait(0.001)


async def test_who_has_left_is_forgotten_and_who_is_cancelled_too() -> None:
    notifier = Notifier()
    started = asyncio.Event()

    async def sleep() -> None:
        with notifier.subscribe() as subscription:
            started.set()
            await subscription.wait(None)

    task = asyncio.create_task(sleep())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not notifier._subscriptions
    notifier.publish()


async def test_one_listener_takes_no_ring_from_another() -> None:
    notifier = Notifier()
    with notifier.subscribe() as one, notifier.subscribe() as two:
        notifier.publish()
        assert await one.wait(0)
        assert await two.wait(0)


async def test_a_tuned_ear_hears_only_rings_about_its_names_and_those_about_everyone() -> None:
    notifier = Notifier()
    with notifier.subscribe() as subscription:
        subscription.narrow({"a", "b"})
        notifier.publish({"c"})
        assert not await subscription.wait(0)
        notifier.publish({"b", "c"})
        assert await subscription.wait(0)
        assert subscription.take_topics() == {"b", "c"}
        notifier.publish()
        assert await subscription.wait(0)
        assert subscription.take_topics() is None


async def test_what_rang_before_the_ear_was_tuned_is_not_lost() -> None:
    notifier = Notifier()
    with notifier.subscribe() as subscription:
        notifier.publish({"a"})
        subscription.narrow({"b"})
        assert await subscription.wait(0)
        assert subscription.take_topics() == {"a"}
        assert subscription.take_topics() == set()

"""What stops an exchange, and what it is told of that."""

import asyncio

import pytest

from broker.gateway.exchange.interruption import InterruptCause, Interruption, ReaderWatch
from tests.fakes.exchange_scene import progress_of


async def waiting(interruption):
    """A task that can be interrupted, and waits."""
    armed = asyncio.Event()

    async def work():
        interruption.arm()
        armed.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await armed.wait()
    return task


async def test_the_first_cause_counts():
    interruption = Interruption()
    task = await waiting(interruption)
    interruption.interrupt(InterruptCause.CLIENT_GONE)
    interruption.interrupt(InterruptCause.CLIENT_STALLED)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert interruption.cause is InterruptCause.CLIENT_GONE


async def test_a_lost_lease_is_made_up_for_unless_the_client_went_too():
    for then, made_up in ((None, True), (InterruptCause.CLIENT_GONE, False)):
        interruption = Interruption()

        async def work(interruption=interruption):
            interruption.arm()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return interruption.make_up_for_lease(), asyncio.current_task().cancelling()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        interruption.interrupt(InterruptCause.LEASE_ENDED)
        if then is not None:
            interruption.interrupt(then)
        assert await task == (made_up, 0 if made_up else 1)
        assert interruption.cause is then


async def test_nothing_is_interrupted_before_it_begins_or_after_it_is_over():
    interruption = Interruption()
    interruption.interrupt(InterruptCause.CLIENT_GONE)
    interruption.arm()
    interruption.disarm()
    interruption.interrupt(InterruptCause.CLIENT_GONE)
    assert interruption.cause is None


async def test_a_reader_is_given_up_only_when_it_took_nothing_for_too_long():
    interruption, progress = Interruption(), progress_of()
    task = await waiting(interruption)
    watch = ReaderWatch(progress.client, interruption, 60.0)
    now_s = asyncio.get_running_loop().time()
    for since_s in (None, now_s - 59.0):
        progress.client.sending_since_s = since_s
        watch.look()
        assert interruption.cause is None
    progress.client.sending_since_s = now_s - 61.0
    watch.start()
    watch.stop()
    assert interruption.cause is InterruptCause.CLIENT_STALLED
    with pytest.raises(asyncio.CancelledError):
        await task

"""A model of the pool is asked on a lease of the memory store; its server's bytes come from a list, not a socket."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from broker.app import build
from broker.core.lease import ModelName
from broker.gateway.exchange.candidates import Candidate, Listed
from broker.gateway.exchange.exchange import Exchange
from broker.gateway.exchange.interruption import InterruptCause
from broker.gateway.exchange.local_attempt import LocalAttempt
from broker.gateway.exchange.queueing import SentAwayError
from broker.gateway.requests.patience import PatienceLimits
from broker.http_client.errors import BrokenAnswerError, UnreachableError
from broker.store.memory.store import MemoryStore
from harness.worker import FakeWorker
from tests.fakes.broker_scene import config_of, has_open_slot, until
from tests.fakes.exchange_scene import Outgoing, Servers, listed, progress_of, whole

SAID = b'{"model": "a", "choices": [{"message": {"content": "hello"}}]}'
EMPTY = b'{"model": "a", "choices": [{"message": {"content": ""}}]}'


@contextlib.asynccontextmanager
async def pool_of(*said):
    """A whole broker but for its sockets: memory store, scheduler, leases, and a worker that loads at once."""
    store = MemoryStore(clock=asyncio.get_running_loop().time)
    broker = build(config_of(gateway={"dead_server_s": 0.05}), store)
    gateway = broker.services.gateway
    gateway.context = replace(gateway.context, connections=Servers(*said))
    work = asyncio.create_task(broker.run())
    async with FakeWorker.on_memory(store, serves=("a", "b")).running():
        try:
            await until(lambda: broker.scheduler.last)
            await until(lambda: has_open_slot(store))
            yield gateway.context, store
        finally:
            await gateway.close()
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            await broker.life.close()
            await broker.book.close()
            await store.close()


def exchange_of(context, progress):
    return Exchange(progress, lambda turn: LocalAttempt(context, turn), reader_stall_s=60.0)


async def all_given_back(store):
    await until(lambda: not [one for one in store.pool.leases.values() if one.state != "ended"])


async def test_an_answer_goes_out_byte_by_byte_and_the_lease_is_given_back():
    async with pool_of(whole(SAID)) as (context, store):
        outgoing = Outgoing()
        progress = progress_of(outgoing)
        await exchange_of(context, progress).serve(listed("a"))
        assert outgoing.body == SAID
        assert progress.lease_id
        await all_given_back(store)


@pytest.mark.parametrize(
    "broken", [UnreachableError("no"), BrokenAnswerError("no"), whole(b"", status=401), whole(EMPTY)]
)
async def test_a_server_that_gave_nothing_of_use_is_asked_once_more(broken):
    async with pool_of(broken, whole(SAID)) as (context, store):
        outgoing = Outgoing()
        progress = progress_of(outgoing)
        await exchange_of(context, progress).serve(listed("a", "b"))
        assert (outgoing.body, progress.model, progress.retries) == (SAID, "a", 1)
        await all_given_back(store)


async def test_a_server_that_broke_off_twice_leaves_the_request_to_the_next_candidate():
    breaks_off = BrokenAnswerError("no")
    async with pool_of(breaks_off, breaks_off, whole(SAID.replace(b'"a"', b'"b"'))) as (context, store):
        progress = progress_of()
        await exchange_of(context, progress).serve(listed("a", "b"))
        assert (progress.model, len(context.connections.asked)) == ("b", 3)
        await all_given_back(store)


async def test_a_client_that_goes_while_the_server_works_gives_its_lease_back():
    async with pool_of(None) as (context, store):
        exchange = exchange_of(context, progress_of())
        served = asyncio.create_task(exchange.serve(listed("a")))
        await context.connections.is_asked.wait()
        exchange.interruption.interrupt(InterruptCause.CLIENT_GONE)
        with pytest.raises(asyncio.CancelledError):
            await served
        await all_given_back(store)


async def test_a_lease_that_ends_while_the_server_works_is_made_up_for():
    async with pool_of(None, whole(SAID)) as (context, store):
        outgoing = Outgoing()
        progress = progress_of(outgoing)
        served = asyncio.create_task(exchange_of(context, progress).serve(listed("a")))
        await context.connections.is_asked.wait()
        await store.end(progress.lease_id, who="operator:x", why="by hand")
        await served
        assert (outgoing.body, progress.retries) == (SAID, 1)
        await all_given_back(store)


async def test_a_line_is_left_in_time_for_another_candidate_and_the_plan_is_told():
    left = []

    class Plan(Listed):
        def leave_line(self):
            left.append("b")

    async with pool_of(None, whole(SAID)) as (context, _):
        blocks = asyncio.create_task(exchange_of(context, progress_of()).serve(listed("a")))
        await context.connections.is_asked.wait()
        now_s = asyncio.get_running_loop().time()
        late = Candidate(model=ModelName("b"), until_s=now_s + 0.05)  # b does not fit beside a
        progress = progress_of()
        await exchange_of(context, progress).serve(Plan([late, Candidate(model=ModelName("a"))]))
        assert (progress.model, left) == ("a", ["b"])
        alone = exchange_of(context, progress_of(limits=PatienceLimits(max_silent_s=0.1)))
        with pytest.raises(SentAwayError):  # the last one is waited for, as long as the client bears
            await alone.serve(Plan([late]))
        assert left == ["b"]
        blocks.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await blocks

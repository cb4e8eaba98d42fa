"""A real broker, a real store and real model servers: large requests that end in every way, and the memory comes back.

Most clients go away, in the middle of their body, in line, before the first byte or in the stream, as agents do that
are stopped. That no object is left is one question (`test_nothing_is_left.py`); this one is what the operating system
sees.
"""

import asyncio
import contextlib
import gzip
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness.stack import Stack, real_stack
from tests.fakes.gateway_scene import CHAT, RawClient

pytestmark = [pytest.mark.redis, pytest.mark.slow]

MIB = 1024 * 1024
SIZES = [31 * MIB, 20 * MIB, 8 * MIB, 3 * MIB, MIB, MIB // 3, MIB // 3, MIB // 16, MIB // 16]
"""Of bodies; what is neither large nor small is what stays among others."""
SHORT_S, LONG_S = 12.0, 60.0
AT_ONCE = 60
"""Clients."""
KEPT_MIB = 50
GONE_AFTER_S = 0.5
"""So long a client waits in line that goes away."""
SETTLED_S = 3.0
"""After this what was going on is over; it is no time in which anything is done about memory."""
HELLO = {"max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}


class Sender:
    """A client with one request."""

    def __init__(self, raw: RawClient, size: int) -> None:
        self._raw = raw
        self._size = size

    def body(self, model: str, **more: object) -> bytes:
        """Large by what no model server reads, which costs it little."""
        return json.dumps({"model": model, **HELLO, **more, "attached": "x" * self._size}).encode()

    async def send(self, content: bytes, *headers: str, part: float = 1.0) -> None:
        """What cannot be sent any more, as the answer is there already, is nobody's trouble."""
        fields = ("host: x", "content-type: application/json", f"content-length: {len(content)}", *headers)
        head = f"POST {CHAT} HTTP/1.1\r\n" + "".join(f"{field}\r\n" for field in fields) + "\r\n"
        self._raw.writer.write(head.encode() + content[: int(part * len(content))])
        with contextlib.suppress(ConnectionError):
            await self._raw.writer.drain()

    async def status(self) -> int:
        return (await self._raw.head())[0]


async def is_served(sender: Sender) -> None:
    await sender.send(sender.body("a"))
    assert await sender.status() in {200, 429}


async def goes_in_line(sender: Sender) -> None:
    await sender.send(sender.body("b"))
    await asyncio.sleep(GONE_AFTER_S)


async def goes_in_the_stream(sender: Sender) -> None:
    await sender.send(sender.body("a", stream=True, max_tokens=300))
    assert await sender.status() in {200, 429}


async def goes_in_its_body(sender: Sender) -> None:
    await sender.send(sender.body("a"), part=0.5)


async def goes_in_line_for_a_stream(sender: Sender) -> None:
    await sender.send(sender.body("b", stream=True))
    await asyncio.sleep(GONE_AFTER_S)


async def goes_before_the_first_byte(sender: Sender) -> None:
    await sender.send(sender.body("a"))


async def goes_before_it_is_unpacked(sender: Sender) -> None:
    await sender.send(gzip.compress(sender.body("a"), 1), "content-encoding: gzip")


async def is_refused(sender: Sender) -> None:
    await sender.send(sender.body("a")[:-1])
    assert await sender.status() == 400


async def asks_for_nobody(sender: Sender) -> None:
    await sender.send(sender.body("nobody"))
    assert await sender.status() == 404


Kind = Callable[[Sender], Awaitable[None]]
KINDS: list[Kind] = [
    is_served,
    goes_in_line,
    goes_in_the_stream,
    goes_in_its_body,
    goes_in_line_for_a_stream,
    goes_before_the_first_byte,
    goes_before_it_is_unpacked,
    is_refused,
    asks_for_nobody,
]


async def clients(stack: Stack, number: int, until_s: float) -> None:
    """One after the other, of all kinds and sizes."""
    chance = random.Random(number)
    while time.monotonic() < until_s:
        raw = await RawClient.to(stack.url)
        try:
            await chance.choice(KINDS)(Sender(raw, chance.choice(SIZES)))
        finally:
            raw.writer.transport.abort()


def resident_mib(pid: int) -> float:
    return _told(pid, "VmRSS:")


def peak_mib(pid: int) -> float:
    """The most that was ever resident, as the kernel counts it."""
    return _told(pid, "VmHWM:")


def _told(pid: int, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


@pytest.fixture
def stack() -> Iterator[Stack]:
    with real_stack() as running:
        yield running


MIDDLING, MANY = 700_000, 500
"""Below what the system gives as blocks of its own."""


async def test_memory_of_many_middling_bodies_comes_back(stack):
    pid = stack.broker.pid
    before = resident_mib(pid)
    raws = [await RawClient.to(stack.url) for _ in range(MANY)]
    await asyncio.gather(*(goes_in_line(Sender(raw, MIDDLING)) for raw in raws))
    for raw in raws:
        raw.writer.transport.abort()
    await asyncio.sleep(SETTLED_S)
    assert resident_mib(pid) - before < KEPT_MIB
    assert peak_mib(pid) - before > 1.5 * KEPT_MIB  # else it was no test


@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(LONG_S, marks=pytest.mark.long)])
async def test_memory_ends_where_it_began(stack, seconds):
    pid = stack.broker.pid
    async with httpx.AsyncClient(base_url=stack.url, timeout=120) as client:
        assert (await client.post(CHAT, json={"model": "a", **HELLO})).status_code == 200
        before = resident_mib(pid)
        until_s = time.monotonic() + seconds
        await asyncio.gather(*(clients(stack, number, until_s) for number in range(AT_ONCE)))
        await asyncio.sleep(SETTLED_S)
        after = resident_mib(pid)
        assert (await client.post(CHAT, json={"model": "a", **HELLO})).status_code == 200
    assert after - before < KEPT_MIB
    assert peak_mib(pid) - before > 2 * KEPT_MIB  # else it was no test

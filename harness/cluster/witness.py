"""Watches a run while it happens: every event as it appears, every model server that lives."""

import asyncio
import contextlib
import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from harness.cluster.processes import Sampler
from harness.history.replay import Catalogue, Replay
from harness.history.trace import Entry, Sample, entry_of

BASE = "hotseat:{default}"
BLOCK_MS = 500
SAMPLE_S = 0.05
RETRY_S = 0.05
PAGE = 1000


class Witness:
    """Reads the stream past all proxies; reconnects for ever."""

    def __init__(self, url: str, catalogue: Catalogue, folder: Path) -> None:
        self._url = url
        self.entries: list[Entry] = []
        self.replay = Replay(catalogue)
        self.samples: list[Sample] = []
        self._sampler = Sampler(folder)
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to watch."""
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._sample())]

    async def stop(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def phase(self) -> str:
        """What the slot is doing, in one word."""
        states = {now.state.value: bool(now.held) for now in self.replay.residencies.values()}
        for state in ("loading", "unloading"):
            if state in states:
                return state
        if "ready" in states:
            return "use" if any(now.held for now in self.replay.residencies.values()) else "idle"
        return "absent"

    async def next_event(self, kind: str, within_s: float) -> Entry | None:
        """The first entry of that kind from now on; None when the time is up."""
        seen = len(self.entries)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    for entry in self.entries[seen:]:
                        if entry.kind == kind:
                            return entry
                    seen = len(self.entries)
                    self._arrived.clear()
                    await self._arrived.wait()
        return None

    async def _read(self) -> None:
        position = "0"
        while True:
            client = self._client()
            try:
                while True:
                    answer: Any = await client.xread({f"{BASE}:events": position}, count=PAGE, block=BLOCK_MS)
                    for event_id, fields in answer[0][1] if answer else ():
                        self._take(entry_of(event_id, fields, seen_s=time.monotonic()))
                        position = event_id
            except (RedisError, OSError):
                await asyncio.sleep(RETRY_S)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    def _client(self) -> Any:
        return redis.asyncio.Redis.from_url(
            self._url, decode_responses=True, socket_timeout=None, retry=None, protocol=2
        )

    def _take(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.replay.feed(entry)
        self._arrived.set()

    async def _sample(self) -> None:
        recent: deque[frozenset[int]] = deque(maxlen=1)
        while True:
            sample = self._sampler.sample()
            pids = frozenset(server.pid for server in sample.servers)
            if not recent or recent[0] != pids:
                self.samples.append(sample)
                recent.append(pids)
            await asyncio.sleep(SAMPLE_S)


async def final_entries(url: str) -> list[Entry]:
    """The whole stream as it stands."""
    client: Any = redis.asyncio.Redis.from_url(url, decode_responses=True, protocol=2)
    try:
        return [entry_of(event_id, fields) for event_id, fields in await client.xrange(f"{BASE}:events")]
    finally:
        await client.aclose()


async def final_leases(url: str) -> tuple[dict[str, str], int]:
    """State of every lease record, and ``meta.queued``."""
    client: Any = redis.asyncio.Redis.from_url(url, decode_responses=True, protocol=2)
    try:
        states = {}
        async for key in client.scan_iter(match=f"{BASE}:lease:*", count=PAGE):
            if (state := await client.hget(key, "state")) is not None:
                states[key.rpartition(":")[2]] = state
        return states, int(await client.hget(f"{BASE}:meta", "queued") or 0)
    finally:
        await client.aclose()


async def check_store(url: str) -> list[str]:
    """What the store's own invariants say, as ``hotseat check``: nothing, when all is well."""
    client: Any = redis.asyncio.Redis.from_url(url, decode_responses=True, protocol=2)
    try:
        return [str(complaint) for complaint in json.loads(await client.fcall_ro("hotseat1_check", 1, BASE))]
    finally:
        await client.aclose()

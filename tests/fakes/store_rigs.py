"""Every adapter of the store's port behind the same handles: time, restart, flush, the worker's side.

The library's only two looks at the outside, ``TIME`` and the server's ``run_id``, are replaced by keys here, so that a
test moves time and restarts servers at will, on real servers too.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from broker.core.lease import AcquireRequest, Intent, LeaseId, ModelName, Nonce, Priority, SlotId
from broker.store.memory.store import MemoryStore
from broker.store.port import ModelSettings, PoolSettings, Store
from broker.store.redis.link import BlockingLinks, Link, RedisLink, ReplyError, Word
from broker.store.redis.lua_library import library_source
from broker.store.redis.store import RedisStore
from schemas.messages import Orders, Report, base_key, orders_from_hash, report_to_hash

START_MS = 1_700_000_000_000
POOL = "test"
BASE = base_key(POOL)
MODELS = (
    ModelSettings(name=ModelName("a"), memory_mib=1000, lease_limit=1),
    ModelSettings(name=ModelName("b"), memory_mib=1000, lease_limit=2),
    ModelSettings(name=ModelName("big"), memory_mib=1800, lease_limit=1),
)
SETTINGS = PoolSettings(models=MODELS)


def steerable(source: str) -> str:
    """The library with time and run id read from keys."""
    for old, new in (
        ("redis.call('TIME')", "redis.call('LRANGE', 'test:time', 0, 1)"),
        ("c.run ~= frame.run_id()", "c.run ~= redis.call('GET', 'test:run')"),
        ("frame.recover(c, frame.run_id())", "frame.recover(c, redis.call('GET', 'test:run'))"),
        ("c.run, c.inc = frame.run_id(), registration.incarnation(frame.run_id(), c.wall)",
         "c.run = redis.call('GET', 'test:run') c.inc = registration.incarnation(c.run, c.wall)"),
    ):  # fmt: skip
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


class Rig:
    """A store and what happens around it."""

    store: Store
    name: str

    def __init__(self) -> None:
        self.wall_ms = START_MS
        self.run = "run0"
        self._numbers = itertools.count(1)

    async def advance(self, seconds: float) -> None:
        """Move the wall clock, also backwards."""
        self.wall_ms += round(seconds * 1000)
        await self._set_world()

    async def pass_time(self, seconds: float) -> None:
        """Let time go by as it does with a broker that ticks, in steps the logical clock follows."""
        left = seconds
        while left > 0:
            await self.advance(min(left, 5.0))
            left -= 5.0
            if left > 0:
                await self.store.tick()

    async def restart(self, run: str) -> None:
        """Another server on the same data."""
        self.run = run
        await self._set_world()

    async def _set_world(self) -> None:
        raise NotImplementedError

    async def flush(self) -> None:
        raise NotImplementedError

    async def put_report(self, slot: str, report: Report) -> None:
        raise NotImplementedError

    async def put_fields(self, slot: str, fields: Mapping[str, bytes]) -> None:
        """A report as somebody writes it who writes anything."""
        raise NotImplementedError

    async def read_orders(self, slot: str) -> Orders:
        raise NotImplementedError

    async def publish(self, fields: dict[str, str]) -> str:
        raise NotImplementedError

    async def rejected(self) -> list[dict[str, str]]:
        raise NotImplementedError

    async def life_of_day(self, day: str) -> float:
        """Seconds until it is forgotten."""
        raise NotImplementedError

    async def close(self) -> None:
        await self.store.close()

    def request(self, session: str = "s", model: str = "a", **more: Any) -> AcquireRequest:
        number = next(self._numbers)
        words: dict[str, Any] = {
            "lease_id": LeaseId(f"L{number}"),
            "nonce": Nonce(f"n{number}"),
            "session": session,
            "model": ModelName(model),
            "intent": Intent.USE,
            "priority": Priority.NORMAL,
            "who": "key",
        }
        return AcquireRequest(**{**words, **more})


class MemoryRig(Rig):
    name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.memory = MemoryStore(clock=lambda: self.wall_ms / 1000, run=self.run)
        self.store = self.memory

    async def _set_world(self) -> None:
        self.memory.restart(self.run)

    async def flush(self) -> None:
        self.memory.flush()

    async def put_report(self, slot: str, report: Report) -> None:
        self.memory.put_report(SlotId(slot), report)

    async def put_fields(self, slot: str, fields: Mapping[str, bytes]) -> None:
        as_text = {name: value.decode("utf-8", "surrogateescape") for name, value in fields.items()}
        self.memory.put_fields(SlotId(slot), as_text)

    async def read_orders(self, slot: str) -> Orders:
        return self.memory.read_orders(SlotId(slot))

    async def publish(self, fields: dict[str, str]) -> str:
        return self.memory.append_ingress(fields)

    async def rejected(self) -> list[dict[str, str]]:
        return [dict(entry.fields) for entry in self.memory.rejected_ingress]

    async def life_of_day(self, day: str) -> float:
        return (self.memory.days._days[day].until_ms - self.wall_ms) / 1000


class RedisRig(Rig):
    def __init__(self, name: str, link: Link, blocking: BlockingLinks) -> None:
        super().__init__()
        self.name = name
        self.link = link
        self.redis_store = RedisStore(pool=POOL, link=link, blocking=blocking)
        self.store = self.redis_store

    async def prepare(self) -> "RedisRig":
        await self.link.call("FLUSHALL")
        await self.link.call("FUNCTION", "LOAD", "REPLACE", steerable(library_source()))
        await self._set_world()
        return self

    async def _set_world(self) -> None:
        seconds, milliseconds = divmod(self.wall_ms, 1000)
        await self.link.call("DEL", "test:time")
        await self.link.call("RPUSH", "test:time", str(seconds), str(milliseconds * 1000))
        await self.link.call("SET", "test:run", self.run)

    async def flush(self) -> None:
        await self.link.call("FLUSHALL")
        await self._set_world()

    async def put_report(self, slot: str, report: Report) -> None:
        await self.put_fields(slot, {name: value.encode() for name, value in report_to_hash(report).items()})

    async def put_fields(self, slot: str, fields: Mapping[str, bytes]) -> None:
        key = f"{BASE}:report:{slot}"
        await self.link.call("DEL", key)
        await self.link.call("HSET", key, *(word for pair in fields.items() for word in pair))
        await self.link.call("XADD", f"{BASE}:bell", "MAXLEN", "~", "1000", "*", "slot", slot)

    async def read_orders(self, slot: str) -> Orders:
        return orders_from_hash(await self.hash_of(f"orders:{slot}"))

    async def hash_of(self, key: str) -> dict[str, str]:
        flat = [word.decode() for word in await self.link.call("HGETALL", f"{BASE}:{key}")]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def publish(self, fields: dict[str, str]) -> str:
        flat = [word for pair in fields.items() for word in pair]
        entry_id: bytes = await self.link.call("XADD", f"{BASE}:ingress", "*", *flat)
        return entry_id.decode()

    async def rejected(self) -> list[dict[str, str]]:
        found = await self.link.call("XRANGE", f"{BASE}:ingress:rejected", "-", "+")
        flat = [[word.decode() for word in words] for _, words in found]
        return [dict(zip(words[::2], words[1::2], strict=True)) for words in flat]

    async def life_of_day(self, day: str) -> float:
        return await self.link.call("PTTL", f"{BASE}:day:{day}") / 1000


def server_rig(name: str, url: str) -> RedisRig:
    return RedisRig(name, RedisLink(url), BlockingLinks(lambda: RedisLink(url)))


class FakeLink:
    """``Link`` over fakeredis: raw replies of one in-process server."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._connection: Any = None

    async def call(self, *words: Word, block_s: float = 0.0) -> Any:
        import fakeredis  # noqa: PLC0415  a development dependency
        from redis.exceptions import ResponseError  # noqa: PLC0415

        if self._connection is None:
            client = fakeredis.FakeAsyncRedis(server=self._server, protocol=2)
            self._connection = await client.connection_pool.get_connection()
        await self._connection.send_command(*words)
        try:
            return await self._connection.read_response()
        except ResponseError as refusal:
            raise ReplyError(str(refusal)) from None

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.disconnect()


def fake_rig() -> RedisRig:
    import fakeredis  # noqa: PLC0415  a development dependency

    server = fakeredis.FakeServer(version=(7,))
    return RedisRig("fakeredis", FakeLink(server), BlockingLinks(lambda: FakeLink(server)))

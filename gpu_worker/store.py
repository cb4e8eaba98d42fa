"""The worker's side of the store: read orders, hear the ring, write the report.

Rule: the worker's ACL allows HGETALL of its orders, XREAD of its ring, DEL and HSET of its report inside MULTI, and
XADD to the bell, nothing else. It calls no function and never needs one. Every command is bounded in time and none is
retried silently: the loop above simply comes again.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from gpu_worker.store_port import StoreError
from schemas.messages import Orders, Report, base_key, orders_from_hash, report_to_hash

BELL_LENGTH = 1000
RING_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """Where the store is and who we are to it."""

    url: str
    pool: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = 5.0


class WorkerStore:
    """The store as one worker sees it."""

    def __init__(self, address: StoreAddress) -> None:
        self._base = base_key(address.pool)
        self._timeout_s = address.timeout_s
        self._commands = _client(address)
        self._blocking = _client(address)

    async def read_orders(self, slot: str) -> Orders:
        """The desired state of a slot.

        Raises:
            StoreError: It could not be read.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                fields: dict[str, str] = await self._commands.hgetall(f"{self._base}:orders:{slot}")
            return orders_from_hash(fields)
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            raise StoreError(_words(error)) from error

    async def write_report(self, slot: str, report: Report) -> None:
        """Replace the slot's report.

        Raises:
            StoreError: It was not, or perhaps not, written.
        """
        await self._write(slot, report, "")

    async def write_changed_report(self, slot: str, report: Report) -> None:
        """Replace the slot's report and ring the brokers.

        Raises:
            StoreError: It was not, or perhaps not, written.
        """
        await self._write(slot, report, f"{self._base}:bell")

    async def _write(self, slot: str, report: Report, bell: str) -> None:
        key = f"{self._base}:report:{slot}"
        try:
            async with asyncio.timeout(self._timeout_s), self._commands.pipeline(transaction=True) as pipe:
                pipe.delete(key)
                pipe.hset(key, mapping=_mapping(report))
                if bell:
                    pipe.xadd(bell, {"slot": slot}, maxlen=BELL_LENGTH, approximate=True)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(_words(error)) from error

    async def wait_ring(self, slot: str, last_id: str, block_s: float) -> str:
        """Wait until the ring sounds or ``block_s`` is over; answers the id to go on from.

        Begin with ``0``: what lies there already costs one early look at the orders, and nothing can fall between.

        Raises:
            StoreError: The store is away.
        """
        key = f"{self._base}:ring:{slot}"
        try:
            async with asyncio.timeout(block_s + self._timeout_s):
                answer: Any = await self._blocking.xread({key: last_id}, count=RING_BATCH, block=int(block_s * 1000))
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(_words(error)) from error
        return _last_id(answer) or last_id

    async def close(self) -> None:
        """Drop the connections."""
        await self._commands.aclose()
        await self._blocking.aclose()


def _client(address: StoreAddress) -> Any:
    return redis.asyncio.Redis.from_url(
        address.url,
        username=address.username,
        password=address.password,
        decode_responses=True,
        # redis-py's own time-out would cut blocking reads and retry them in silence, and on Python 3.11 it swallows a
        # cancellation that comes while it sends: ours is around each call
        socket_timeout=None,
        socket_connect_timeout=address.timeout_s,
        retry=None,
        protocol=2,
        driver_info=None,  # CLIENT SETINFO and the next line's CLIENT MAINT_NOTIFICATIONS are not in the worker's ACL
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )


def _mapping(report: Report) -> Any:
    return report_to_hash(report)


def _last_id(answer: Any) -> str:
    """The id of the newest entry of an XREAD answer of one stream; empty where there is none."""
    return str(answer[0][1][-1][0]) if answer and answer[0][1] else ""


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"

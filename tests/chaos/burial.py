"""A broker is killed with requests of ``/v1`` in its hands: their places are free again within seconds.

Done in fair weather at the end of every run, so that a late end is nobody else's fault.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass

import redis.asyncio
from redis.exceptions import RedisError

from harness.cluster.cluster import Cluster
from harness.cluster.parts import wait_for
from harness.cluster.witness import BASE, Witness

FREE_WITHIN_S = 5.0
HANDFUL_WITHIN_S = 30.0
"""By then the broker has something in its hands."""
POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Burial:
    """What came of one killing."""

    broker: str
    held: int
    """Leases in use when it was killed."""
    waiting: int
    took_s: float
    """Until the last of them had ended."""


async def bury(cluster: Cluster, witness: Witness, broker: str, *, down_s: float) -> Burial:
    """Kill it once it holds something; ``took_s`` is infinite where a place was not free in time.

    Raises:
        TimeoutError: Nobody streams through it.
    """
    mine = await _handful(cluster, witness, broker)
    held = [lease for lease in mine if witness.replay.leases[lease].state == "active"]
    cluster.parts[broker].kill(down_s=down_s)
    killed_s = time.monotonic()

    def over() -> bool:
        return all(witness.replay.leases[lease].state == "ended" for lease in mine)

    free = await wait_for(over, FREE_WITHIN_S)
    took_s = time.monotonic() - killed_s if free else float("inf")
    return Burial(broker=broker, held=len(held), waiting=len(mine) - len(held), took_s=took_s)


async def _handful(cluster: Cluster, witness: Witness, broker: str) -> list[str]:
    """What belongs to the broker's life now, one lease in use at least."""
    store = redis.asyncio.Redis.from_url(cluster.store_url, decode_responses=True, protocol=2)
    try:
        async with asyncio.timeout(HANDFUL_WITHIN_S):
            while True:
                with contextlib.suppress(RedisError):
                    mine = await _leases_of(store, broker, witness)
                    if any(witness.replay.leases[lease].state == "active" for lease in mine):
                        return mine
                await asyncio.sleep(POLL_S)
    finally:
        await store.aclose()


async def _leases_of(store: "redis.asyncio.Redis", broker: str, witness: Witness) -> list[str]:
    live = [lease for lease, row in witness.replay.leases.items() if row.state != "ended"]
    lives = [await store.hget(f"{BASE}:lease:{lease}", "life") or "" for lease in live]
    return [lease for lease, life in zip(live, lives, strict=True) if life.startswith(f"{broker}/")]

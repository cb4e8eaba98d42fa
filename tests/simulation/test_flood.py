"""Floods on a virtual clock, default policy: a session's share on its model, and the bound for everybody else."""

import asyncio
import random

import pytest

from broker.core.lease import AcquireRequest, LeaseId, LeaseState, ModelName, Nonce, SlotId
from broker.core.settings import PolicySettings
from tests.chaos.clients import session_hash
from tests.chaos.trace import Entry
from tests.chaos.trace_check import granted_seconds, jain_index
from tests.simulation.pool import Pool, Scene
from tests.simulation.virtual import run_virtually

pytestmark = pytest.mark.slow
POLICY = PolicySettings()
RUN_S = 900.0
HOLD_S = 5.0
WAITER_TTL_S = 3600.0
Agents = list[tuple[str, int, str]]
"""Session, how many agents it has, their model."""


async def agent(pool: Pool, session: str, holder: str, model: str) -> None:
    rng = random.Random(holder)
    for number in range(100_000):
        lease_id = LeaseId(f"{session}-{holder}-{number}")
        request = AcquireRequest(
            lease_id=lease_id, nonce=Nonce("n"), session=session, holder=holder, model=ModelName(model), ttl_s=600.0,
            waiter_ttl_s=WAITER_TTL_S,
        )  # fmt: skip
        record = await pool.store.acquire(request)
        while record.state is LeaseState.QUEUED:
            await asyncio.sleep(0.1)
            record = await pool.store.poll(lease_id, waiter_ttl_s=WAITER_TTL_S)
        await asyncio.sleep(rng.uniform(0.5, 1.5) * HOLD_S)
        await pool.store.release(lease_id, record.nonce, who="agent")


def flooded(agents: Agents) -> list[Entry]:
    async def main() -> list[Entry]:
        scene = Scene(seed=1, models={"a": 600, "b": 600}, budgets={"gpu0": 1000}, policy=POLICY, load_fails=0.0)
        pool = Pool(scene)
        pool.hurting = False
        await pool.store.init(pool.settings)
        entries: list[Entry] = []
        lives = [pool.broker(), pool.worker(SlotId("gpu0")).run(), pool._read(entries)]
        lives += [agent(pool, session, f"h{n}", model) for session, count, model in agents for n in range(count)]
        tasks = [asyncio.create_task(life) for life in lives]
        await asyncio.sleep(RUN_S)
        assert not any(task.done() for task in tasks)
        return entries

    return run_virtually(main())


def test_three_sessions_share_a_model_though_one_floods_it() -> None:
    seconds = granted_seconds(flooded([("s0", 2, "a"), ("s1", 2, "a"), ("flood", 12, "a")]))
    assert jain_index(list(seconds.values())) >= 0.9


def test_a_flood_on_one_model_delays_another_model_to_the_age_bound_at_most() -> None:
    """A flooded queue may be worth more per second than a switch; then only ``max_wait_s`` ends it."""
    entries = flooded([("s0", 2, "a"), ("flood", 12, "a"), ("other", 1, "b")])
    mine = [entry for entry in entries if entry.get("sh") == session_hash("other")]
    queued, granted = (next(e.at_ms for e in mine if e.kind == kind) for kind in ("queued", "granted"))
    slack_s = POLICY.slice_min_s + POLICY.preempt_grace_s + 2 * HOLD_S
    assert (granted - queued) / 1000 <= max(POLICY.max_wait_s.values()) + slack_s

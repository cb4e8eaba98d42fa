"""Floods on a virtual clock, default policy: a session's share on its model, and the bound for everybody else."""

import asyncio
import random

import pytest

from broker.core.lease import AcquireRequest, LeaseId, LeaseState, ModelName, Nonce, SlotId
from broker.policy.settings import PolicySettings
from harness.cluster.clients import session_hash
from harness.history.trace import Entry
from harness.history.trace_check import granted_seconds, jain_index
from tests.simulation.pool import Pool, Scene
from tests.simulation.virtual import run_virtually

pytestmark = pytest.mark.slow
POLICY = PolicySettings()
RUN_S = 900.0
HOLD_S = 5.0
NEW_LOAD_S = 15.0
"""What the policy reckons with for a load nobody has seen."""
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
            await asyncio.sleep(0.25)
            record = await pool.store.poll(lease_id, waiter_ttl_s=WAITER_TTL_S)
        await asyncio.sleep(rng.uniform(0.5, 1.5) * HOLD_S)
        await pool.store.release(lease_id, record.nonce, who="agent")


def flooded(agents: Agents) -> list[Entry]:
    async def main() -> list[Entry]:
        models = {model: 600 for _, _, model in agents}
        scene = Scene(seed=1, models=models, budgets={"gpu0": 1000}, policy=POLICY, load_fails=0.0)
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


def longest_wait_s(entries: list[Entry], session: str) -> float:
    mine = [entry for entry in entries if entry.get("sh") == session_hash(session)]
    asked_ms = {entry.get("lease"): entry.at_ms for entry in mine if entry.kind == "queued"}
    granted_ms = {entry.get("lease"): entry.at_ms for entry in mine if entry.kind == "granted"}
    return max(granted_ms[lease] - at_ms for lease, at_ms in asked_ms.items() if lease in granted_ms) / 1000


def test_a_flood_on_one_model_delays_another_model_by_a_few_slices_at_most() -> None:
    """A flooded queue may be worth more per second than a switch: that buys it ``slice_max_factor`` slices."""
    entries = flooded([("s0", 2, "a"), ("flood", 12, "a"), ("other", 2, "b")])
    slice_s = POLICY.slice_load_factor * NEW_LOAD_S
    turn_s = (POLICY.slice_max_factor + POLICY.slice_overtime) * slice_s + POLICY.exchange_min_run_s
    assert longest_wait_s(entries, "other") <= turn_s + POLICY.preempt_grace_s + NEW_LOAD_S
    assert jain_index(list(granted_seconds(entries).values())) >= 0.9


def test_floods_on_two_models_delay_a_third_to_the_age_bound_at_most() -> None:
    """The next model is the one worth most, and worth counts tickets; then only ``max_wait_s`` ends it."""
    entries = flooded([("flood", 12, "a"), ("flood", 12, "c"), ("other", 2, "b")])
    slack_s = POLICY.slice_min_s + POLICY.preempt_grace_s + 2 * HOLD_S
    assert longest_wait_s(entries, "other") <= max(POLICY.max_wait_s.values()) + slack_s

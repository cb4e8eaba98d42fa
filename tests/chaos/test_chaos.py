"""A short chaos run of real processes, seeded; `make chaos` runs the long one."""

import os

import pytest

from tests.chaos.run import Plan, run
from tests.chaos.summary import table

FAULTS = int(os.environ.get("CHAOS_FAULTS", "14"))
SEED = int(os.environ.get("CHAOS_SEED", "20261121"))


@pytest.mark.chaos
@pytest.mark.timeout(1800)  # waits for processes by design
async def test_nothing_is_lost_when_processes_are_killed_paused_and_cut_off() -> None:
    outcome = await run(Plan(seed=SEED, faults=FAULTS, longest_pause_s=4.0))
    assert outcome.violations == [], f"{table(outcome)}\nseed {SEED}; traces and logs: {outcome.folder}"

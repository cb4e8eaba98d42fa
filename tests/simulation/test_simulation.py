"""Whole pools, seed by seed, on a virtual clock: whatever goes wrong, no invariant breaks and everybody is served."""

import os

import pytest

from tests.simulation.pool import Pool, Result, Scene
from tests.simulation.virtual import run_virtually

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "6"))
pytestmark = pytest.mark.slow
ONE_SLOT = {"models": {"a": 600, "b": 600, "c": 300}, "budgets": {"gpu0": 1000}}
TWO_SLOTS = {"models": {"a": 600, "b": 600, "c": 300, "d": 900}, "budgets": {"gpu0": 1000, "gpu1": 700}}


def simulated(scene: Scene) -> Result:
    async def main() -> Result:
        return await Pool(scene).play()

    return run_virtually(main())


@pytest.mark.parametrize("stage", [ONE_SLOT, TWO_SLOTS], ids=["one slot", "two slots"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_pool_survives_whatever_happens(seed: int, stage: dict[str, dict[str, int]]) -> None:
    result = simulated(Scene(seed=seed, **stage))
    assert result.violations == []
    assert result.complaints == []
    assert result.unfinished == []
    kinds = {entry.kind for entry in result.entries}
    assert {"granted", "ready", "absent", "recovered", "registered", "ended"} <= kinds, "nothing much happened"


def test_the_same_seed_is_the_same_run() -> None:
    scene = Scene(seed=3, hurt_s=30.0, **ONE_SLOT)
    assert simulated(scene).entries == simulated(scene).entries

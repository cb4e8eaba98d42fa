"""The simulation finds what it is for: each rule of the core, broken on purpose, is noticed within a few seeds."""

from collections.abc import Callable
from typing import Any

import pytest

from broker.core.slot import SlotState
from broker.pool.leases import handout
from broker.pool.records.events import emit
from broker.pool.slots import orders, states
from broker.pool.slots import residencies as pool_residencies
from gpu_worker.slot.reconcile import reconcile
from schemas.residency import Residency
from tests.simulation import host
from tests.simulation.pool import Pool, Result, Scene
from tests.simulation.virtual import run_virtually

SEEDS = 6
pytestmark = pytest.mark.slow


def nothing(*_: Any, **__: Any) -> None:
    return None


def places_without_limit(pool: Any, model: Any) -> list[Any]:
    ready = [
        (pool.residencies[slot, model].use, slot, pool.residencies[slot, model]) for slot in pool.models[model].ready
    ]
    return [place for place in ready if pool.slots[place[1]].state is SlotState.OPEN]


def places_on_any_slot(pool: Any, model: Any) -> list[Any]:
    row = pool.models[model]
    ready = [(pool.residencies[slot, model].use, slot, pool.residencies[slot, model]) for slot in row.ready]
    return [place for place in ready if place[0] < row.lease_limit]


def recover_without_barrier(pool: Any, *, run: str, inc: str) -> None:
    pool.known.inc, pool.known.run = inc, run
    emit(pool, "recovered", who="scheduler", why=inc)
    for slot in pool.slots.values():
        slot.inc = inc
        orders.write_orders(pool, slot)


def first_generation(pool: Any, at: Any, *, gen: int, key: str, depth: Residency) -> None:
    pool.slots[at.slot].gen = 1
    pool_residencies.order(pool, at, gen=1, key=key, depth=depth)


def reconcile_without_waiting(wanted: Any, residents: Any, **limits: Any) -> Any:
    return reconcile(wanted, [one for one in residents if one.depth is not Residency.UNLOADING], **limits)


MUTANTS: dict[str, tuple[Any, str, Callable[..., Any], str]] = {
    "no limit": (handout, "free_residencies", places_without_limit, "at_most_lease_limit_per_model"),
    "closed slots": (handout, "free_residencies", places_on_any_slot, "granted_only_on_an_open_slot"),
    "no barrier": (states, "recover", recover_without_barrier, "granted_only_on_an_open_slot"),
    "old generation": (orders, "order", first_generation, "generations_only_grow"),
    "leases survive their server": (pool_residencies, "lose_leases", nothing, "no_eviction_under_a_use_lease"),
    "loads beside unloads": (host, "reconcile", reconcile_without_waiting, "one_model_server"),
}


def simulated(seed: int) -> Result:
    async def main() -> Result:
        return await Pool(Scene(seed=seed, models={"a": 600, "b": 600}, budgets={"gpu0": 1000}, hurt_s=60.0)).play()

    return run_virtually(main())


def noticed(invariant: str) -> bool:
    return any(invariant in {broken.invariant for broken in simulated(seed).violations} for seed in range(SEEDS))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, attribute, mutant, invariant = MUTANTS[name]
    monkeypatch.setattr(module, attribute, mutant)
    assert noticed(invariant)

import pytest

from broker.core.lease import ModelName, Priority, SlotId
from broker.core.slot import SlotState
from broker.core.snapshot import ModelView, ResidencyView, SlotView, Snapshot
from broker.policy.board import lay_out
from broker.policy.eviction import minimal_sets, reload_price, room_for
from broker.policy.settings import PolicySettings
from schemas.residency import Residency


def resident(i, mib):
    return ResidencyView(model=ModelName(f"m{i:02d}"), state=Residency.READY, generation=1, memory_mib=mib)


def board_of(residents, expected, settings=None, new=None, budget_mib=10):
    models = {
        r.model: ModelView(name=r.model, memory_mib=r.memory_mib, lease_limit=4, expected_arrivals=expected[i])
        for i, r in enumerate(residents)
    }
    if new is not None:
        models[new.name] = new
    slot = SlotView(
        slot=SlotId("gpu0"),
        state=SlotState.OPEN,
        generation=1,
        budget_mib=budget_mib,
        serves=frozenset(models),
        residencies=tuple(residents),
    )
    snapshot = Snapshot(now_s=0.0, sequence=1, next_arrival=1, models=models, slots=(slot,))
    return lay_out(snapshot, settings or PolicySettings())


def scene(sizes, need_mib, budget_mib, expected):
    new = ModelView(name=ModelName("new"), memory_mib=need_mib, lease_limit=4)
    residents = [resident(i, mib) for i, mib in enumerate(sizes)]
    board = board_of(residents, expected, new=new, budget_mib=budget_mib)
    return room_for(board, board.open_slots[0], new)


def test_minimal_sets_have_no_superfluous_member():
    found = {
        tuple(r.memory_mib for r in chosen)
        for chosen in minimal_sets((resident(0, 4), resident(1, 6), resident(2, 10)), 10)
    }
    assert found == {(10,), (4, 6)}


def test_two_cheap_ones_go_before_one_dear_one():
    room = scene([4, 6, 10], 10, 20, [0.1, 0.1, 0.9])
    assert [r.model for r in room.evict] == ["m00", "m01"]


def test_what_cannot_fit_has_no_room():
    assert scene([4, 6], 30, 20, [0.0, 0.0]) is None


def test_many_residents_are_priced_per_mib():
    room = scene([2] * 12, 6, 24, [0.9] * 9 + [0.1] * 3)
    assert [r.model for r in room.evict] == ["m09", "m10", "m11"]


def test_memory_taken_by_others_counts_as_taken():
    room = scene([10, 10], 10, 15, [0.5, 0.1])
    assert [r.model for r in room.evict] == ["m00", "m01"]


def test_who_is_expected_counts_as_much_as_the_operator_lets_a_normal_ticket_count():
    def price(weight):
        board = board_of([resident(0, 10)], [0.5], PolicySettings(weights=dict.fromkeys(Priority, weight)))
        return reload_price(board, resident(0, 10))

    assert price(3.0) == pytest.approx(3.0 * price(1.0)) != 0.0

"""A load that nobody waits for any more: finished, or broken off where that is cheaper.

Whoever it began for has left the line: closed the connection, gave up, was served elsewhere. It may be back (SDKs try
again within a second, people after they have corrected a word), or never. So this is the question of renting skis: what
finishing costs is known (``left``), and so is what breaking off throws away should somebody come back (``spent``). To
stop while less is spent than is left is never more than twice as dear as knowing the future.

It stands in nobody's way meanwhile: a load without waiters yields to any model that is waited for (``targets``).
"""

from broker.core.decisions import Unload, Why
from broker.core.snapshot import ModelView, ResidencyView
from broker.policy.board import EPSILON_S, Board, OpenSlot

PATIENCE_S = 1.0
"""Nothing is broken off sooner after the last one left: the official SDKs' first retry comes after half a second."""
FORGIVEN_LOADS = 10
"""Whoever came back after all finds it loaded to its end, for as long as so many loads take: a client that gives up
sooner than a load takes, and tries again each time, gets there in the end."""


def break_off(board: Board, open_slot: OpenSlot, moments: list[float]) -> Unload | None:
    """Give up the load that runs on a slot, if it is deserted.

    1. A load that began for nobody, a prefetch, is not this rule's business. The default model is wanted anyway, and so
       is one that a conversation keeps warm.
    2. Somebody may be back within ``PATIENCE_S``.
    3. It was broken off lately and somebody came back: not again.
    4. It goes on where less is left than was spent; what unloading takes and who is expected to ask for it soon count.
    """
    load = open_slot.loading
    if load is None:
        return None
    demand = board.demands[load.model]
    was_left = demand.waiting == 0 and demand.view.deserted_s >= load.started_s and demand.view.deserted_s > 0
    if load.prefetched or not was_left or demand.view.warm_leases or demand.view.is_default:  # 1
        return None
    patient_until_s = demand.view.deserted_s + PATIENCE_S
    if board.now_s + EPSILON_S < patient_until_s:  # 2
        moments.append(patient_until_s)
        return None
    spent_s = board.now_s - load.started_s
    left_s = demand.view.load_s - spent_s
    if _was_broken_off_lately(demand.view, load) or left_s <= spent_s + demand.view.unload_s + demand.keep_s:  # 3, 4
        return None
    return Unload(slot=open_slot.slot, generation=open_slot.view.generation, model=load.model, why=Why.DESERTED)


def _was_broken_off_lately(view: ModelView, load: ResidencyView) -> bool:
    return view.given_up_s > 0 and load.started_s - view.given_up_s < FORGIVEN_LOADS * view.load_s

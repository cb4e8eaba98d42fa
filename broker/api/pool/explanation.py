"""Why a lease waits, told to a person: who is ahead, what the slots do, the longest it can take."""

import math

from broker.api.services import PoolPicture
from broker.api.views import Outlook
from broker.core.availability import failures_of
from broker.core.lease import LeaseRecord, LeaseState
from broker.core.slot import SlotState
from broker.gateway.exchange.settings import Prospect
from broker.policy.bound import Bound, worst_wait_s
from broker.policy.settings import PolicySettings
from schemas.http.api import Explanation

WORDS = {
    "model_busy": "the model is loaded and all its places are taken",
    "loading": "the model is loading",
    "draining_other": "it is next to be loaded; what must go is still in use",
    "other_model_first": "another model's queue is worth more per second now",
    "barrier": "the model must make room; only those who waited for its load are still admitted",
    "loader_busy": "another load or unload runs on the slot",
    "backing_off": "its last load failed; it is tried again soon",
    "no_slot": "no open worker can serve it",
    "quarantined": "it cannot be loaded as it is, or failed too often; it is given up for a while",
}


DOUBTFUL_TRIES = 2
"""The first failure is told and waited through."""


def prospect(record: LeaseRecord, picture: PoolPicture | None, outlook: Outlook) -> Prospect:
    """What the data path is told about a ticket's future.

    Doubtful is a load that failed twice in a row, the last time while the ticket waited, or that is not tried again
    yet: what is over, and what another ticket met, is nobody's trouble now.
    """
    fresh = record.retry_in_s > 0 or record.failed_ago_s <= record.waited_s
    view = None if picture is None else picture.snapshot.models.get(record.model)
    return Prospect(
        eta_s=outlook.eta_s,
        earliest_s=outlook.low_s,
        served=outlook.wait_reason not in {"no_slot", "quarantined"},
        doubtful=record.load_tries >= DOUBTFUL_TRIES and fresh,
        answer_s=view.hold_s + view.hold_sd_s if view is not None and view.hold_n else 0.0,
    )


async def explain(
    record: LeaseRecord, picture: PoolPicture | None, outlook: Outlook, policy: PolicySettings
) -> Explanation:
    """The answer of ``GET /lease/{id}/why``."""
    lines = [_headline(record)]
    queued = record.state is LeaseState.QUEUED
    if queued:
        lines += _queue_lines(record, outlook)
    if picture is not None:
        lines += _failure_lines(record, picture)
        lines += _slot_lines(picture)
    bound = _bound(record, picture, policy) if queued and picture is not None else None
    if bound is not None:
        lines.append(
            f"at most {bound.total_s:.0f} s from its arrival ({record.waited_s:.0f} s ago), with queues as long as now "
            "and loads that succeed:"
        )
        lines += [f"  {part.seconds:8.0f} s  {part.what}" for part in bound.parts]
    return Explanation(
        lease_id=record.lease_id,
        state=record.state.value,
        lines=lines,
        wait_reason=outlook.wait_reason if queued else None,
        position=record.position if queued else None,
        ahead=max(0, record.position - 1) if queued else None,
        bound_seconds=None if bound is None else round(bound.total_s, 1),
    )


def _bound(record: LeaseRecord, picture: PoolPicture, policy: PolicySettings) -> Bound | None:
    """The longest wait; None where no open slot serves the model, then there is none."""
    snapshot = picture.snapshot
    homes = [slot for slot in snapshot.slots if slot.state is SlotState.OPEN and record.model in slot.serves]
    if not homes or record.model not in snapshot.models:
        return None
    rivals = set().union(*(slot.serves for slot in homes))
    models = [model for name, model in sorted(snapshot.models.items()) if name in rivals]
    return worst_wait_s(
        policy,
        models,
        snapshot.models[record.model],
        record.priority,
        queue_bound=max(1, *(model.waiting for model in models)),
        ahead=max(0, record.position - 1),
        reason=picture.plan.waits.get(record.model),
    )


def _headline(record: LeaseRecord) -> str:
    head = f"{record.lease_id}: {record.intent} of {record.model} by {record.whose}, {record.priority}"
    if record.state is LeaseState.ENDED:
        return f"{head}; ended: {record.reason}"
    if record.state is LeaseState.QUEUED:
        return f"{head}; waits since {record.waited_s:.0f} s"
    return f"{head}; {record.state} since {record.held_s:.0f} s, {record.expires_in_s:.0f} s left"


def _queue_lines(record: LeaseRecord, outlook: Outlook) -> list[str]:
    ahead = max(0, record.position - 1)
    lines = [
        f"place {record.position} of its model: {ahead} {'ticket is' if ahead == 1 else 'tickets are'} served before it"
    ]
    if outlook.wait_reason:
        lines.append(f"{outlook.wait_reason}: {WORDS.get(outlook.wait_reason, outlook.wait_reason)}")
    if outlook.eta_s is not None:
        low_s, high_s = outlook.low_s or 0.0, outlook.high_s or outlook.eta_s
        lines.append(f"expected in {outlook.eta_s:.0f} s ({low_s:.0f} to {high_s:.0f})")
    return lines


def _failure_lines(record: LeaseRecord, picture: PoolPicture) -> list[str]:
    snapshot = picture.snapshot
    view = snapshot.models.get(record.model)
    lines = [f"{record.model} is out of service: {view.off}"] if view is not None and view.off else []
    failures = failures_of(snapshot, record.model)
    if record.load_error and not failures:  # the picture is a moment old
        lines.append(f"its load failed {_times(record.load_tries)}: {record.load_error}")
    for failure in failures:
        wait_s = failure.not_before_s - snapshot.now_s
        ago = f"the last time {max(0.0, snapshot.now_s - failure.failed_s):.0f} s ago"
        if wait_s == math.inf:
            lines.append(f"it cannot be started: {failure.error}")
            continue
        again = f"not tried before {wait_s:.0f} s from now" if wait_s > 0 else "tried again when somebody waits for it"
        lines.append(f"its load failed {_times(failure.fails)}, {ago} ({failure.kind}): {failure.error}; {again}")
    return lines


def _times(count: int) -> str:
    return "once" if count <= 1 else f"{count} times in a row"


def _slot_lines(picture: PoolPicture) -> list[str]:
    lines = []
    for slot in sorted(picture.snapshot.slots, key=lambda slot: slot.slot):
        models = [f"{r.model} {r.state} ({r.use} held)" for r in slot.residencies if r.state.value != "absent"]
        target = picture.plan.targets.get(slot.slot)
        making_room = f"; makes room for {target}" if target else ""
        lines.append(f"slot {slot.slot} is {slot.state}: {', '.join(models) or 'empty'}{making_room}")
    return lines

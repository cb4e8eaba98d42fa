"""Why a lease waits, told to a person: who is ahead, what the slots do, the longest it can take."""

from broker.api.services import Picture
from broker.api.views import Outlook
from broker.core.lease import LeaseRecord, LeaseState
from broker.core.settings import PolicySettings
from schemas.api import Why

WORDS = {
    "model_busy": "the model is loaded and all its places are taken",
    "loading": "the model is loading",
    "draining_other": "it is next to be loaded; what must go is still in use",
    "other_model_first": "another model's queue is worth more per second now",
    "barrier": "the model must make room; only those who waited for its load are still admitted",
    "loader_busy": "another load or unload runs on the slot",
    "backing_off": "its last load failed; it is tried again soon",
    "no_slot": "no open worker can serve it",
    "quarantined": "its loads failed too often; an operator has to heal the slot",
}


async def explain(record: LeaseRecord, picture: Picture | None, outlook: Outlook, policy: PolicySettings) -> Why:
    """The answer of ``GET /lease/{id}/why``."""
    lines = [_headline(record)]
    queued = record.state is LeaseState.QUEUED
    if queued:
        lines += _queue_lines(record, outlook)
    if picture is not None:
        lines += _slot_lines(picture)
    if queued:
        lines.append(
            f"after {policy.max_wait_s[record.priority]:.0f} s in line a {record.priority} ticket goes before every "
            f"other consideration (it has waited {record.waited_s:.0f} s)"
        )
    return Why(
        lease_id=record.lease_id,
        state=record.state.value,
        lines=lines,
        wait_reason=outlook.wait_reason if queued else None,
        position=record.position if queued else None,
        ahead=max(0, record.position - 1) if queued else None,
        bound_seconds=None,
    )


def _headline(record: LeaseRecord) -> str:
    head = f"{record.lease_id}: {record.intent} of {record.model} by {record.session}, {record.priority}"
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


def _slot_lines(picture: Picture) -> list[str]:
    lines = []
    for slot in sorted(picture.snapshot.slots, key=lambda slot: slot.slot):
        models = [f"{r.model} {r.state} ({r.use} held)" for r in slot.residencies if r.state.value != "absent"]
        target = picture.plan.targets.get(slot.slot)
        making_room = f"; makes room for {target}" if target else ""
        lines.append(f"slot {slot.slot} is {slot.state}: {', '.join(models) or 'empty'}{making_room}")
    return lines

"""Can a model be had at all, by a picture of the pool: as ``pool.leases.availability`` says it in the store."""

import math

from broker.core.errors import ModelUnavailableError
from broker.core.lease import ModelName
from broker.core.refusals import REFUSAL_PAUSE_S, given_up, out_of_service
from broker.core.slot import SlotState
from broker.core.snapshot import FailureView, Snapshot
from schemas.residency import Residency


def failures_of(snapshot: Snapshot, model: ModelName) -> list[FailureView]:
    """Return the failures on record of a model, the newest first."""
    found = [failure for slot in snapshot.slots for failure in slot.failures if failure.model == model]
    return sorted(found, key=lambda failure: -failure.failed_s)


def served_nowhere(snapshot: Snapshot, model: ModelName) -> bool:
    """Tell whether there are workers, and no catalogue of theirs has an entry for it."""
    there = any(slot.worker for slot in snapshot.slots)
    return there and not any(model in slot.serves for slot in snapshot.slots)


def unavailable_by_picture(snapshot: Snapshot, model: ModelName) -> ModelUnavailableError | None:
    """Return why nobody should wait for it; None: one may, as far as the picture shows."""
    view = snapshot.models.get(model)
    if view is None:
        return None
    if view.off:
        return out_of_service(model, view.off)
    homes = [slot for slot in snapshot.slots if slot.state is not SlotState.OFFLINE and model in slot.serves]
    residents = [one for slot in snapshot.slots for one in slot.residencies if one.model == model]
    failures = [one for slot in homes for one in slot.failures if one.model == model]
    may_load = len(failures) < len(homes) or not all(one.is_given_up(snapshot.now_s) for one in failures)
    if not homes or may_load or any(one.state is Residency.READY for one in residents):
        return None
    waits_s = [one.not_before_s - snapshot.now_s for one in failures]
    retry_s = min(math.ceil(wait_s) if wait_s < math.inf else REFUSAL_PAUSE_S for wait_s in waits_s)
    newest = failures_of(snapshot, model)[0]
    return given_up(model, newest.kind, newest.error, max(1, retry_s))

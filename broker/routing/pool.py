"""The pool as routing sees it: a scheduler's picture, asked model by model.

Rule: a forecast costs more than a decision without one, so it is made when somebody asks for that model, and then once
for all requests until the next picture.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from broker.core.decisions import Plan, WaitReason
from broker.core.forecast import forecast
from broker.core.lease import ModelName
from broker.core.settings import PolicySettings
from broker.core.slot import Residency, SlotState
from broker.core.snapshot import ADMIT_ALL, ModelView, ResidencyView, SlotView, Snapshot
from broker.routing.variants import ModelState


class PoolModels(Mapping[str, ModelState]):
    """For ``State.models``: the models that some slot can serve."""

    def __init__(self, snapshot: Snapshot, plan: Plan, settings: PolicySettings) -> None:
        """Of one picture."""
        self._snapshot = snapshot
        self._plan = plan
        self._settings = settings
        self._known: dict[str, ModelState | None] = {}

    def __getitem__(self, name: str) -> ModelState:
        if name not in self._known:
            view = self._snapshot.models.get(ModelName(name))
            self._known[name] = None if view is None else self._state(view)
        state = self._known[name]
        if state is None:
            raise KeyError(name)
        return state

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._snapshot.models if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _state(self, view: ModelView) -> ModelState | None:
        """1. No slot. 2. Slots that come back in a moment. 3. A place is free. 4. The forecast for one more ticket."""
        homes = [slot for slot in self._snapshot.slots if _can_serve(slot, view)]
        if not homes:
            return None
        residents = [
            one for slot in homes if slot.state is SlotState.OPEN for one in slot.residencies if one.model == view.name
        ]
        ready = [one for one in residents if one.state is Residency.READY]
        if all(slot.state is SlotState.RECOVERING for slot in homes):
            return ModelState()
        if view.waiting == 0 and any(one.admit == ADMIT_ALL and one.use < view.lease_limit for one in ready):
            return ModelState(ready=True, wait_s=0.0)
        backing_off = all(_backs_off(slot, view, self._snapshot.now_s) for slot in homes)
        reason = WaitReason.BACKING_OFF if backing_off and not residents else _reason(residents)
        return ModelState(ready=bool(ready), wait_s=self._wait_s(view, reason))

    def _wait_s(self, view: ModelView, reason: WaitReason) -> float | None:
        plan = self._plan
        if view.name not in plan.waits:
            plan = replace(plan, waits={**plan.waits, view.name: reason})
        return forecast(self._snapshot, plan, view.name, view.waiting + 1, self._settings).eta_s


def _reason(residents: list[ResidencyView]) -> WaitReason:
    """What the first ticket of a model would wait for."""
    states = {one.state for one in residents}
    if any(one.state is Residency.READY and one.admit == ADMIT_ALL for one in residents):
        return WaitReason.MODEL_BUSY
    return WaitReason.LOADING if Residency.LOADING in states else WaitReason.OTHER_MODEL_FIRST


def _can_serve(slot: SlotView, view: ModelView) -> bool:
    """A slot that was restarted with the store is back within about a second: it counts."""
    if slot.state not in {SlotState.OPEN, SlotState.RECOVERING} or view.name not in slot.serves:
        return False
    quarantined = any(one.model == view.name and one.quarantined for one in slot.failures)
    return view.memory_mib <= slot.budget_mib and not quarantined


def _backs_off(slot: SlotView, view: ModelView, now_s: float) -> bool:
    return any(one.model == view.name and one.retry_at_s > now_s for one in slot.failures)


def free_mib(snapshot: Snapshot) -> int:
    """For ``State.free_mib``: the most that one open slot has free, or under models nobody uses or waits for, MiB."""
    return max((_free(slot, snapshot) for slot in snapshot.slots if slot.state is SlotState.OPEN), default=0)


def _free(slot: SlotView, snapshot: Snapshot) -> int:
    held = [one for one in slot.residencies if one.state is not Residency.ABSENT]
    in_use = [one for one in held if one.use or one.state is not Residency.READY or snapshot.models[one.model].waiting]
    return max(0, slot.budget_mib - sum(one.memory_mib for one in in_use))

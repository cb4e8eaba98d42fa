"""The pool as routing sees it: a scheduler's picture, asked model by model.

Rule: a forecast costs more than a decision without one, so it is made when somebody asks for that model, and then once
for all requests until the next picture.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from broker.core.decisions import Plan, WaitReason
from broker.core.lease import ModelName
from broker.core.slot import SlotState
from broker.core.snapshot import ADMIT_ALL, ModelView, ResidencyView, SlotView, Snapshot
from broker.policy.forecast import forecast
from broker.policy.settings import PolicySettings
from broker.routing.variants import ModelState
from schemas.residency import Residency

ECHO_S = 20.0
"""What a device did shows in its use for some seconds after, and a report is some seconds old."""


class PoolModels(Mapping[str, ModelState]):
    """The models that some slot can serve, as ``State.models`` wants them."""

    def __init__(self, snapshot: Snapshot, plan: Plan, settings: PolicySettings, busy_percent: int = 0) -> None:
        """Look at one picture; devices that others use more than ``busy_percent`` are busy, 0: none is."""
        self._busy_percent = busy_percent
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
        """Tell how a model stands; None: no slot can serve it.

        1. No slot serves it.
        2. All slots that serve it come back in a moment.
        3. A lease on it is free.
        4. Else the forecast for one more ticket counts.
        """
        homes = [slot for slot in self._snapshot.slots if _can_serve(slot, view, self._snapshot.now_s)]
        if not homes or view.off:
            return None
        residents = [
            one for slot in homes if slot.state is SlotState.OPEN for one in slot.residencies if one.model == view.name
        ]
        ready = [one for one in residents if one.state is Residency.READY]
        if all(slot.state is SlotState.RECOVERING for slot in homes):
            return ModelState()
        busy = self._is_busy(homes, view)
        if view.waiting == 0 and any(one.admit == ADMIT_ALL and one.use < view.lease_limit for one in ready):
            return ModelState(ready=True, wait_s=0.0, busy=busy)
        backing_off = all(_backs_off(slot, view, self._snapshot.now_s) for slot in homes)
        reason = WaitReason.BACKING_OFF if backing_off and not residents else _reason(residents)
        return ModelState(ready=bool(ready), wait_s=self._wait_s(view, reason), busy=busy)

    def _is_busy(self, homes: list[SlotView], view: ModelView) -> bool:
        """Are all slots that it is on, or could be on where it is on none?"""
        on = [
            slot
            for slot in homes
            if any(one.model == view.name and one.state.occupies_device for one in slot.residencies)
        ]
        return all(is_busy(slot, self._snapshot, self._busy_percent) for slot in on or homes)

    def _wait_s(self, view: ModelView, reason: WaitReason) -> float | None:
        plan = self._plan
        if view.name not in plan.waits:
            plan = replace(plan, waits={**plan.waits, view.name: reason})
        return forecast(self._snapshot, plan, view.name, self._settings).at(view.waiting + 1).eta_s


def _reason(residents: list[ResidencyView]) -> WaitReason:
    """What the first ticket of a model would wait for."""
    states = {one.state for one in residents}
    if any(one.state is Residency.READY and one.admit == ADMIT_ALL for one in residents):
        return WaitReason.MODEL_BUSY
    return WaitReason.LOADING if Residency.LOADING in states else WaitReason.OTHER_MODEL_FIRST


def _can_serve(slot: SlotView, view: ModelView, now_s: float) -> bool:
    """A slot that was restarted with the store is back within about a second: it counts."""
    if slot.state not in {SlotState.OPEN, SlotState.RECOVERING} or view.name not in slot.serves:
        return False
    given_up = any(one.model == view.name and one.is_given_up(now_s) for one in slot.failures)
    return view.memory_mib <= slot.budget_mib and not given_up


def is_busy(slot: SlotView, snapshot: Snapshot, percent: int) -> bool:
    """Do others use its device more than so much?

    Where nobody tells whose work it is: does anybody, while none of ours can be at work, in no slot of that worker?
    """
    if percent == 0:
        return False
    if slot.foreign_percent >= 0:
        return slot.foreign_percent > percent
    ours = (one for other in snapshot.slots if other.worker == slot.worker for one in other.residencies)
    return slot.used_percent > percent and all(_rests(one, snapshot.now_s) for one in ours)


def _rests(one: ResidencyView, now_s: float) -> bool:
    """Is nothing of a model at work, and has not been for long enough that it does not show any more?"""
    return not one.use and one.state in {Residency.READY, Residency.ABSENT} and now_s - one.last_used_s > ECHO_S


def _backs_off(slot: SlotView, view: ModelView, now_s: float) -> bool:
    return any(one.model == view.name and one.retry_at_s > now_s for one in slot.failures)


def free_mib(snapshot: Snapshot) -> int:
    """Return the most that a slot has free, or under models nobody uses or waits for, MiB (``State.free_mib``)."""
    return max((_free(slot, snapshot) for slot in snapshot.slots if slot.state is SlotState.OPEN), default=0)


def _free(slot: SlotView, snapshot: Snapshot) -> int:
    held = [one for one in slot.residencies if one.state.occupies_host]
    in_use = [one for one in held if one.use or one.state is not Residency.READY or snapshot.models[one.model].waiting]
    return max(0, slot.budget_mib - sum(one.memory_mib for one in in_use))

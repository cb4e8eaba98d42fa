"""When waiters will be served: the latest picture, brought up to the moment, and what was learned of earlier forecasts.

Rule: an estimate must not cost anybody a lease, so whatever goes wrong here is logged and nothing is told.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from broker.core.calibration import Calibration
from broker.core.decisions import Plan
from broker.core.forecast import Forecast, forecast
from broker.core.lease import LeaseId, LeaseRecord, Priority
from broker.core.policy import decide
from broker.core.settings import PolicySettings
from broker.core.snapshot import ClassQueue, ModelView, Snapshot
from broker.scheduler import Round
from broker.store.port import Event

log = logging.getLogger("hotseat.forecasts")

MOST_TOLD = 10_000
"""Tickets whose forecasts are remembered until they are served; the oldest are forgotten first."""
GROWTH = 2.0
"""A ticket's next forecast is remembered when it has waited so many times as long as at the last one."""
FIRST_S = 1.0


@dataclass(slots=True)
class _Told:
    """What one ticket was told, and when, on the store's clock."""

    said: list[tuple[float, Forecast]] = field(default_factory=list)
    next_s: float = 0.0
    """Waited at least this long when the next one is remembered."""


@dataclass(slots=True)
class Forecasts:
    """One process's."""

    last: Callable[[], Round | None]
    """The scheduler's latest look."""
    policy: PolicySettings
    clock: Callable[[], float]
    """The one that ``Round.at_s`` is of."""
    calibration: Calibration = field(default_factory=Calibration)
    _told: "OrderedDict[LeaseId, _Told]" = field(default_factory=OrderedDict)

    def of(self, record: LeaseRecord) -> Forecast | None:
        """When a ticket is served, and why it waits; None where nothing has been seen yet, or its model is unknown."""
        last = self.last()
        if last is None or record.model not in last.snapshot.models:
            return None
        try:
            raw = self._raw(last, record)
        except Exception:
            log.exception("forecast_failed", extra={"model": record.model})
            return None
        self._remember(record, raw)
        return self.calibration.corrected(raw)

    def note(self, event: Event) -> None:
        """Listen to the event stream: a grant shows what the forecasts of its ticket were worth."""
        if event.kind not in {"granted", "ended"}:
            return
        told = self._told.pop(LeaseId(event.fields.get("lease", "")), None)
        if told is not None and event.kind == "granted":
            for said_s, raw in told.said:
                self.calibration.learn(raw, event.at_s - said_s)

    def _raw(self, last: Round, record: LeaseRecord) -> Forecast:
        age_s = max(0.0, self.clock() - last.at_s)
        snapshot = replace(last.snapshot, now_s=last.snapshot.now_s + age_s)
        plan, position = last.plan, max(1, record.position)
        if snapshot.models[record.model].waiting < position:
            snapshot, plan = with_ticket(snapshot, record, position, self.policy)
        return forecast(snapshot, plan, record.model, position, self.policy)

    def _remember(self, record: LeaseRecord, raw: Forecast) -> None:
        told = self._told.get(record.lease_id)
        if told is None:
            told = self._told[record.lease_id] = _Told()
            if len(self._told) > MOST_TOLD:
                self._told.popitem(last=False)
        if record.waited_s >= told.next_s:
            told.said.append((record.now_s, raw))
            told.next_s = max(FIRST_S, record.waited_s * GROWTH)


def with_ticket(
    snapshot: Snapshot, record: LeaseRecord, position: int, policy: PolicySettings
) -> tuple[Snapshot, Plan]:
    """The picture with a ticket that came after it was taken, and what would be decided on that."""
    view = snapshot.models[record.model]
    missing = position - view.waiting
    queues = _with(view, record.priority, missing, arrived_s=snapshot.now_s - record.waited_s, arrival=record.arrival)
    known_s = record.expected_s if record.expected_s > 0 else 0.0
    models = {
        **snapshot.models,
        record.model: replace(
            view,
            queues=queues,
            expected_sum_s=view.expected_sum_s + known_s,
            unestimated=view.unestimated + missing - (1 if known_s else 0),
        ),
    }
    there = replace(snapshot, models=models, queued=snapshot.queued + missing)
    return there, decide(there, policy)


def _with(
    view: ModelView, priority: Priority, missing: int, *, arrived_s: float, arrival: int
) -> tuple[ClassQueue, ...]:
    queues = {queue.priority: queue for queue in view.queues}
    old = queues.get(priority)
    queues[priority] = (
        ClassQueue(priority=priority, count=missing, oldest_s=arrived_s, oldest_arrival=arrival)
        if old is None
        else replace(old, count=old.count + missing)
    )
    return tuple(queues[each] for each in Priority if each in queues)

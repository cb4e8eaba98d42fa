"""When waiters will be served: the latest picture, brought up to the moment, and what was learned of earlier forecasts.

Rule: an estimate must not cost anybody a lease, so whatever goes wrong here is logged and nothing is told.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from broker.core.decisions import Plan
from broker.core.lease import LeaseId, LeaseRecord, ModelName, Priority
from broker.core.snapshot import ClassQueue, ModelView, Snapshot
from broker.policy.calibration import Calibration
from broker.policy.decide import decide
from broker.policy.forecast import Forecast, QueueForecast, forecast
from broker.policy.settings import PolicySettings
from broker.scheduling.scheduler import Round
from broker.store.port import Event

log = logging.getLogger("hotseat.forecasts")

MOST_TOLD = 10_000
"""How many tickets' forecasts are remembered until they are served; the oldest are forgotten first."""
GROWTH = 2.0
"""A ticket's next forecast is remembered when it has waited this many times as long as at the last one."""
FIRST_S = 1.0
FRESH_S = 0.2
"""A queue's forecast is as good as new for so long: 1 to 3 ms that each of a thousand tickets shown would cost anew."""


@dataclass(slots=True)
class _Told:
    """What one ticket was told, and when, on the store's clock."""

    said: list[tuple[float, Forecast]] = field(default_factory=list)
    next_s: float = 0.0
    """It must have waited this long, seconds, before the next forecast is remembered."""


@dataclass(slots=True)
class Forecasts:
    """Tells one broker process when tickets will be served, and learns how good that was."""

    last: Callable[[], Round | None]
    """Returns the scheduler's latest look; None before the first."""
    policy: PolicySettings
    clock: Callable[[], float]
    """The clock that ``Round.at_s`` is of."""
    calibration: Calibration = field(default_factory=Calibration)
    _told: "OrderedDict[LeaseId, _Told]" = field(default_factory=OrderedDict)
    _queues: dict[ModelName, QueueForecast] = field(default_factory=dict)
    """Made of ``_made_of`` at ``_made_s``: many tickets of one queue ask at the same time."""
    _made_of: Round | None = None
    _made_s: float = -math.inf

    def of(self, record: LeaseRecord) -> Forecast | None:
        """Tell when a ticket is served, and why it waits; None: nothing has been seen yet, or its model is unknown."""
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
        """Take in one event of the store's stream: a grant shows what the forecasts of its ticket were worth."""
        if event.kind not in {"granted", "ended"}:
            return
        told = self._told.pop(LeaseId(event.fields.get("lease", "")), None)
        if told is not None and event.kind == "granted":
            for said_s, raw in told.said:
                self.calibration.learn(raw, event.at_s - said_s)

    def _raw(self, last: Round, record: LeaseRecord) -> Forecast:
        at_s, position = self.clock(), max(1, record.position)
        if last.snapshot.models[record.model].waiting < position:
            snapshot, plan = with_ticket(_moved_to(last, at_s), record, position, self.policy)
            return forecast(snapshot, plan, record.model, self.policy).at(position)
        if self._made_of is not last or at_s - self._made_s > FRESH_S:
            self._made_of, self._made_s, self._queues = last, at_s, {}
        queue = self._queues.get(record.model)
        if queue is None:
            queue = forecast(_moved_to(last, at_s), last.plan, record.model, self.policy)
            self._queues[record.model] = queue
        return queue.at(position)

    def _remember(self, record: LeaseRecord, raw: Forecast) -> None:
        told = self._told.get(record.lease_id)
        if told is None:
            told = self._told[record.lease_id] = _Told()
            if len(self._told) > MOST_TOLD:
                self._told.popitem(last=False)
        if record.waited_s >= told.next_s:
            told.said.append((record.now_s, raw))
            told.next_s = max(FIRST_S, record.waited_s * GROWTH)


def _moved_to(last: Round, at_s: float) -> Snapshot:
    """The picture as it would be now if nothing had happened since but time."""
    return replace(last.snapshot, now_s=last.snapshot.now_s + max(0.0, at_s - last.at_s))


def with_ticket(
    snapshot: Snapshot, record: LeaseRecord, position: int, policy: PolicySettings
) -> tuple[Snapshot, Plan]:
    """Return the picture with a ticket that came after it was taken, and what would be decided on that."""
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

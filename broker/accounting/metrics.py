"""Prometheus metrics of one broker process; counts come from its own calls and from the event stream."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from broker.accounting.counters import Counts, Histograms
from broker.core.slot import SlotState
from broker.core.snapshot import Snapshot

REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60)
WAIT_BUCKETS = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 1200)
MAX_BIRTHS = 20_000
"""Tickets whose arrival is remembered for the wait histogram; the oldest are forgotten first."""


class Metrics:
    """One registry per application, so that tests and two brokers in one process do not collide."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counts("hotseat_http_requests", "Answers of the API", ["route", "status"], registry=registry)
        self._seconds = Histograms(
            "hotseat_http_request_seconds",
            "Time to answer, waiting included",
            ["route"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.events = Counts("hotseat_events", "Transitions in the pool, by kind", ["kind"], registry=registry)
        self.grants = Counts("hotseat_grants", "Leases granted", ["model", "intent"], registry=registry)
        self.ends = Counts("hotseat_lease_ends", "Leases ended", ["model", "reason"], registry=registry)
        self.waits = Histograms(
            "hotseat_wait_seconds", "Queued to granted", ["model"], buckets=WAIT_BUCKETS, registry=registry
        )
        self.loads = Histograms(
            "hotseat_load_seconds", "Ordered to ready", ["model"], buckets=WAIT_BUCKETS, registry=registry
        )
        self.decisions = Counter(
            "hotseat_decisions", "Committed, by kind and cause", ["kind", "why"], registry=registry
        )
        self.stale = Counter("hotseat_stale_decisions", "Refused because the pool had moved on", registry=registry)
        self.decide_seconds = Histogram(
            "hotseat_decide_seconds", "Snapshot and decision", buckets=REQUEST_BUCKETS, registry=registry
        )
        self.store_errors = Counter("hotseat_store_errors", "Failed rounds of a loop", ["loop"], registry=registry)
        self.ingress = Counter("hotseat_ingress", "Ingress messages", ["outcome"], registry=registry)
        self.gaps = Gauge("hotseat_event_gaps", "Times events may have been missed", registry=registry)
        self.waiters = Gauge("hotseat_waiters", "Open connections that wait", registry=registry)
        self.up = Gauge("hotseat_store_up", "1 while the store answers", registry=registry)
        self._leases = Gauge("hotseat_leases", "Held leases", ["model", "intent"], registry=registry)
        self._queued = Gauge("hotseat_queued", "Waiting tickets", ["model", "priority"], registry=registry)
        self._oldest = Gauge("hotseat_oldest_wait_seconds", "Of the waiting tickets", ["model"], registry=registry)
        self._slots = Gauge("hotseat_slot_state", "1 for the state a slot is in", ["slot", "state"], registry=registry)
        self._memory = Gauge("hotseat_slot_memory_mib", "Of a slot", ["slot", "what"], registry=registry)
        self._used = Gauge(
            "hotseat_slot_utilisation_percent",
            "Of a slot's device, by anybody and by others than our model servers; where nobody tells: none",
            ["slot", "by"],
            registry=registry,
        )
        self._births: dict[str, float] = {}
        self._orders: dict[tuple[str, str], float] = {}

    def answered(self, route: str, status: int, took_s: float) -> None:
        """Count one answer of the HTTP API and how long it took, waiting included."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(took_s)

    def note(self, kind: str, at_s: float, fields: Mapping[str, str]) -> None:
        """Count one transition of the event stream."""
        self.events.labels(kind).inc()
        model, lease = fields.get("model", ""), fields.get("lease", "")
        if kind == "queued":
            self._remember(lease, at_s)
        elif kind == "granted":
            self.grants.labels(model, fields.get("intent", "")).inc()
            if (since_s := self._births.pop(lease, None)) is not None:
                self.waits.labels(model).observe(max(0.0, at_s - since_s))
        elif kind == "ended":
            self._births.pop(lease, None)
            self.ends.labels(model, fields.get("why", "").partition(":")[0]).inc()
        elif kind == "loading":
            self._orders[fields.get("slot", ""), model] = at_s
        elif kind == "ready":
            since_s = self._orders.pop((fields.get("slot", ""), model), None)
            if since_s is not None:
                self.loads.labels(model).observe(max(0.0, at_s - since_s))

    def _remember(self, lease: str, at_s: float) -> None:
        if len(self._births) >= MAX_BIRTHS:
            del self._births[next(iter(self._births))]
        self._births[lease] = at_s

    def render(self, snapshot: Snapshot | None) -> bytes:
        """Return the exposition text; its gauges are taken from the given picture of the pool."""
        if snapshot is not None:
            self._show(snapshot)
        return generate_latest(self.registry)

    def _show(self, snapshot: Snapshot) -> None:
        for gauge in (self._leases, self._queued, self._oldest, self._slots, self._memory, self._used):
            gauge.clear()
        for model in snapshot.models.values():
            self._leases.labels(model.name, "warm").set(model.warm_leases)
            self._leases.labels(model.name, "use").set(0)
            for queue in model.queues:
                self._queued.labels(model.name, queue.priority.value).set(queue.count)
            oldest = min((queue.oldest_s for queue in model.queues), default=snapshot.now_s)
            self._oldest.labels(model.name).set(max(0.0, snapshot.now_s - oldest))
        for slot in snapshot.slots:
            for state in SlotState:
                self._slots.labels(slot.slot, state.value).set(slot.state is state)
            for what in ("budget_mib", "total_mib", "free_mib", "foreign_mib"):
                self._memory.labels(slot.slot, what.removesuffix("_mib")).set(getattr(slot, what))
            if slot.used_percent or slot.foreign_percent >= 0:
                self._used.labels(slot.slot, "anybody").set(slot.used_percent)
            if slot.foreign_percent >= 0:
                self._used.labels(slot.slot, "others").set(slot.foreign_percent)
            for lease in slot.leases:
                self._leases.labels(lease.model, "use").inc()

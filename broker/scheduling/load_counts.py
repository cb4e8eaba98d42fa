"""Loads in the day's report: of all brokers on a store, the one that ordered a load counts it."""

from broker.accounting.daily_counts import DailyCounts
from broker.core.decisions import Decision, Load
from broker.core.lease import ModelName, SlotId
from broker.store.port import Event

_Place = tuple[SlotId, ModelName]
"""Where a load happens: a slot has at most one load of a model at a time."""


class LoadAccounts:
    """Counts the loads that this broker process ordered, and how long they took."""

    def __init__(self, book: DailyCounts) -> None:
        self._book = book
        self._ordered: set[_Place] = set()
        self._since_s: dict[_Place, float] = {}
        """When the loads under way began, whoever ordered them: the event may come before our own call's answer."""

    def committed(self, decision: Decision) -> None:
        """Note that a decision of this broker was carried out."""
        if not isinstance(decision, Load):
            return
        self._ordered.add((decision.slot, decision.model))
        self._book.count("loads", decision.model, decision.why.value)
        if decision.evict:
            self._book.count("swaps", decision.model)

    def note(self, event: Event) -> None:
        """Take in one event of the store's stream."""
        if event.kind not in {"loading", "ready", "load_failed", "absent"}:
            return
        place = (SlotId(event.fields.get("slot", "")), ModelName(event.fields.get("model", "")))
        if event.kind == "loading":
            self._since_s[place] = event.at_s
            return
        since_s = self._since_s.pop(place, None)
        if place not in self._ordered or (since_s is None and event.kind == "absent"):
            return  # somebody else's; or the end of what was there before
        self._ordered.discard(place)
        if event.kind == "load_failed":
            self._book.count("failedLoads", place[1])
        if event.kind == "ready" and since_s is not None:
            self._book.took("load", place[1], seconds=max(0.0, event.at_s - since_s))

"""Counts wait for the store, are added once, and are lost no further back than the last batch."""

import asyncio
from datetime import date

import pytest

from broker.accounting import daily_counts
from broker.accounting.daily_counts import BUCKETS_MS, DailyCounts, day_words_of
from broker.api.pool.reports import percentile_s, report_of
from broker.core.decisions import Load, Why
from broker.core.errors import StoreUnavailableError
from broker.core.lease import ModelName, SlotId
from broker.scheduling.load_counts import LoadAccounts
from broker.store.days import Batch
from broker.store.port import Event

NOON_S = 1_795_262_400.0
"""2026-11-21, noon."""
DAY_S = 86_400.0
DAY = date(2026, 11, 21)


class Shelf:
    """Takes batches, or is away."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.away = False

    async def add(self, batch: Batch, *, kept_s: float) -> None:
        self.batches.append(batch)
        if self.away:
            raise StoreUnavailableError("away")

    async def read(self, day: str) -> dict[str, int]:
        return {}


class Scene:
    def __init__(self) -> None:
        self.now_s = NOON_S
        self.shelf = Shelf()
        self.book = DailyCounts(self.shelf, source="one", every_s=5.0, kept_s=DAY_S, unix_s=lambda: self.now_s)


@pytest.fixture
def scene():
    return Scene()


async def test_equal_counts_leave_as_one_number(scene):
    for _ in range(3):
        scene.book.count("requests", "local", "named")
    scene.book.count("tokens", "local", "a", "prompt", by=30)
    await scene.book.send()
    (batch,) = scene.shelf.batches
    assert (batch.day, batch.source, batch.number) == ("2026-11-21", "one", 1)
    assert batch.counts == {"requests|local|named": 3, "tokens|local|a|prompt": 30}
    await scene.book.send()
    assert len(scene.shelf.batches) == 1, "nothing new, nothing sent"


async def test_a_batch_whose_reply_was_lost_leaves_again_as_it_was(scene):
    scene.book.count("requests", "local", "named")
    scene.shelf.away = True
    with pytest.raises(StoreUnavailableError):
        await scene.book.send()
    scene.book.count("requests", "local", "named")
    scene.shelf.away = False
    await scene.book.send()
    first, again, rest = scene.shelf.batches
    assert first == again
    assert (again.number, again.counts) == (1, {"requests|local|named": 1})
    assert (rest.number, rest.counts) == (2, {"requests|local|named": 1})


async def test_midnight_parts_the_days(scene):
    scene.book.count("requests", "local", "named")
    scene.now_s += DAY_S / 2
    scene.book.count("requests", "local", "named")
    await scene.book.send()
    assert [batch.day for batch in scene.shelf.batches] == ["2026-11-21", "2026-11-22"]


async def test_a_store_that_is_away_costs_bounded_memory(scene, monkeypatch, caplog):
    monkeypatch.setattr(daily_counts, "MAX_FIELDS", 5)
    for day in range(10):
        scene.now_s = NOON_S + day * DAY_S
        for number in range(10):
            scene.book.count("retries", f"m{number}")
        scene.book.count("retries", "m0")
    await scene.book.send()
    assert [batch.day for batch in scene.shelf.batches] == ["2026-11-28", "2026-11-29", "2026-11-30"]
    assert all(len(batch.counts) == 5 and batch.counts["retries|m0"] == 2 for batch in scene.shelf.batches)
    assert {"day_dropped", "daybook_full"} <= {record.getMessage() for record in caplog.records}


async def test_the_last_batch_leaves_when_the_process_ends_and_cannot_hold_it_up(scene, monkeypatch, caplog):
    scene.book.count("retries", "a")
    await scene.book.close()
    assert len(scene.shelf.batches) == 1
    monkeypatch.setattr(daily_counts, "LAST_S", 0.01)

    async def never(batch: Batch, *, kept_s: float) -> None:
        await asyncio.Event().wait()

    scene.shelf.add = never
    scene.book.count("retries", "a")
    await scene.book.close()
    assert "daybook_lost" in caplog.text


def test_labels_of_any_kind_come_back_as_they_were(scene):
    for labels in (("a|b", ""), ("100 %", "ü"), ("org/model:7b@q4", "_")):
        scene.book.count("requests", *labels)
    fields = scene.book._waiting["2026-11-21"]
    assert [day_words_of(field)[1] for field in fields] == [("a|b", ""), ("100 %", "ü"), ("org/model:7b@q4", "_")]


@pytest.mark.parametrize("seconds", [0.0, 0.0004, 0.004, 0.25, 3.3, 61.0, 5000.0])
def test_a_percentile_is_half_too_large_at_worst(scene, seconds):
    for _ in range(100):
        scene.book.took("wait", "a", seconds=seconds)
    (timed, of_a) = report_of("p", DAY, scene.book._waiting["2026-11-21"]).times["wait"]
    assert (timed.labels, of_a.labels, timed.count) == ({}, {"model": "a"}, 100)
    for found in (timed.p50_seconds, timed.p95_seconds):
        assert abs(found - seconds) <= max(0.001, seconds * 0.5)


def test_percentiles_of_a_mixture(scene):
    assert percentile_s({10: 94, 5000: 6}, 0.5) < 0.011
    assert 3.0 < percentile_s({10: 94, 5000: 6}, 0.95) <= 5.0
    assert percentile_s({0: 3}, 0.5) == BUCKETS_MS[-1] / 1000, "beyond all bounds"


def test_a_report_leaves_out_what_it_does_not_know_and_what_did_not_happen():
    fields = {"requests|local|named": 2, "requests|one-label": 9, "omens|a": 7, "wait|a|10": 1, "wait|a": 3}
    found = report_of("p", DAY, fields)
    assert {kind: [row.count for row in rows] for kind, rows in found.counts.items()} == {"requests": [2]}
    assert list(found.times) == ["wait"]


def load(model: str, *evict: str) -> Load:
    given_up = tuple(ModelName(name) for name in evict)
    return Load(slot=SlotId("gpu0"), generation=1, model=ModelName(model), evict=given_up, why=Why.WAITERS)


def event(kind: str, model: str, at_s: float) -> Event:
    return Event(event_id="1-1", sequence=1, kind=kind, at_s=at_s, fields={"slot": "gpu0", "model": model})


def test_only_the_broker_that_ordered_a_load_counts_it(scene):
    loads = LoadAccounts(scene.book)
    loads.note(event("loading", "b", 1.0))
    loads.note(event("ready", "b", 3.0))
    assert not scene.book._waiting, "another broker's"
    loads.committed(load("a", "b"))
    loads.note(event("absent", "a", 3.9))
    loads.note(event("loading", "a", 4.0))
    loads.note(event("ready", "a", 6.0))
    loads.committed(load("b"))
    loads.note(event("loading", "b", 7.0))
    loads.note(event("load_failed", "b", 8.0))
    loads.note(event("load_failed", "b", 9.0))
    counted = scene.book._waiting["2026-11-21"]
    why = Why.WAITERS.value
    assert counted == {
        f"loads|a|{why}": 1,
        "swaps|a": 1,
        "load|a|2000": 1,
        f"loads|b|{why}": 1,
        "failedLoads|b": 1,
    }

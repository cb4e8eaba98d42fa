"""The hot paths' counters say what prometheus_client's own would say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from broker.accounting.counters import Counts, Histograms

BUCKETS = (0.005, 0.1, 1, 30)


def said(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


@given(st.lists(st.tuples(st.sampled_from(["a", 'b"\\\n', ""]), st.sampled_from([0.0, 0.005, 0.1, 0.5, 31.0]))))
def test_the_same_events_give_the_same_series(events):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    labels, name = ["model", "kind"], "hotseat_y_seconds"
    counters = (
        Counts("hotseat_x", "Some", labels, registry=ours),
        Counter("hotseat_x", "Some", labels, registry=theirs),
    )
    histograms = (
        Histograms(name, "More", ["model"], buckets=BUCKETS, registry=ours),
        Histogram(name, "More", ["model"], buckets=BUCKETS, registry=theirs),
    )
    for model, value in events:
        for counter, histogram in zip(counters, histograms, strict=True):
            counter.labels(model, "x").inc(value)
            histogram.labels(model).observe(value)
    assert said(ours) == said(theirs)


def test_a_name_is_taken_once():
    registry = CollectorRegistry()
    Counts("hotseat_x", "Some", ["model"], registry=registry)
    with pytest.raises(ValueError, match="hotseat_x"):
        Counts("hotseat_x", "Some", ["model"], registry=registry)

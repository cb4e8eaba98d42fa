"""Counters and histograms for the hot paths: plain numbers that become Prometheus series when somebody asks.

prometheus_client's own take a lock, look for an exemplar and check themselves at every count; here an event costs one
addition. For one thread: that of the event loop.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Count:
    """One series of ``Counts``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Count; ``by`` is not negative."""
        self.value += by


class Counts(Collector):
    """A counter with labels: one series for each combination of their values."""

    def __init__(self, name: str, text: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        self._said = (name, text)
        self._names = labels
        self._children: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The series of these label values, in the order of their names."""
        found = self._children.get(values)
        if found is None:
            assert len(values) == len(self._names)
            found = self._children[values] = Count()
        return found

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Return all series; the registry calls it whenever Prometheus asks."""
        family = CounterMetricFamily(*self._said, labels=self._names)
        for values, child in self._children.items():
            family.add_metric(values, child.value)
        return [family]

    describe = collect


class Times:
    """One series of ``Histograms``."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * len(bounds)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value into its bucket, and add it to the sum."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Histograms(Collector):
    """A labelled histogram; ``buckets`` are upper bounds, in order, the last one (without end) is added."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], *, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._said = (name, text)
        self._names = labels
        self._bounds = (*buckets, math.inf)
        self._children: dict[tuple[str, ...], Times] = {}
        registry.register(self)

    def labels(self, *values: str) -> Times:
        """The series of these label values, in the order of their names."""
        found = self._children.get(values)
        if found is None:
            assert len(values) == len(self._names)
            found = self._children[values] = Times(self._bounds)
        return found

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return all series with cumulative buckets; the registry calls it whenever Prometheus asks."""
        family = HistogramMetricFamily(*self._said, labels=self._names)
        for values, child in self._children.items():
            sums = zip(map(floatToGoString, self._bounds), accumulate(child.counts), strict=True)
            family.add_metric(values, [(bound, float(count)) for bound, count in sums], child.total)
        return [family]

    describe = collect

"""Full collections come by the clock, when it is quiet."""

import subprocess
import sys

import pytest

from broker.process import collector

_PROBE = """
import gc
from broker.process import collector
collector.settle()
before = gc.get_stats()[2]["collections"]
kept = [[] for _ in range(2_000_000)]
print(gc.get_stats()[2]["collections"] - before, gc.get_freeze_count() > 1000)
"""


@pytest.mark.parametrize(
    "since_s, connections, due",
    [(60, 0, True), (60, 300, True), (60, 301, False), (3599, 9000, False), (3600, 9000, True)],
)
def test_full_collections_wait_for_a_quiet_moment_an_hour_at_most(since_s: float, connections: int, due: bool) -> None:
    assert collector.is_due(since_s, connections) is due


def test_no_full_collection_starts_by_itself_once_settled() -> None:
    # a process of its own: the tests' collector stays as it is
    printed = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["0", "True"]

"""Full collections come by the clock, the rarer the longer they take."""

import subprocess
import sys

import pytest

from broker import collector

_PROBE = """
import gc
from broker import collector
collector.settle()
before = gc.get_stats()[2]["collections"]
kept = [[] for _ in range(2_000_000)]
print(gc.get_stats()[2]["collections"] - before, gc.get_freeze_count() > 1000)
"""


@pytest.mark.parametrize(
    "took_s, pause_s", [(0.0, 60), (0.012, 60), (0.06, 300), (0.68, 600)], ids=["none", "small", "large", "huge"]
)
def test_pause_is_five_thousand_times_the_collection_within_bounds(took_s: float, pause_s: float) -> None:
    assert collector.pause_after(took_s) == pytest.approx(pause_s)


def test_no_full_collection_starts_by_itself_once_settled() -> None:
    # a process of its own: the tests' collector stays as it is
    printed = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["0", "True"]

"""The lanes of `make test`: nothing falls between them, and none of them hides what another one says."""

import sys
import threading
from pathlib import Path

import pytest

from tests.lanes import COMPUTING, MOST, TESTS, Lane, counted, main, plan, told, worst


def ignored(lane: Lane) -> set[Path]:
    return {Path(word.partition("=")[2]) for word in lane.programs[0] if word.startswith("--ignore=")}


def taken(lane: Lane) -> set[Path]:
    """Files of tests that the lane runs."""
    left_out = ignored(lane)
    return {file for file in TESTS.rglob("test_*.py") if not left_out & {file, *file.parents}}


def saying(name: str, line: str, status: int = 0) -> Lane:
    return Lane(name, [(sys.executable, "-c", f"print({line!r}); raise SystemExit({status})")])


def test_each_file_of_tests_is_in_exactly_one_lane():
    computing, waiting = (taken(lane) for lane in plan(2, [], []))
    assert computing & waiting == set()
    assert computing | waiting == set(TESTS.rglob("test_*.py"))
    assert {file.relative_to(TESTS).parts[0] for file in computing} == set(COMPUTING)


def test_the_drivers_suite_waits_for_the_servers_that_it_starts():
    computing, waiting = (taken(lane) for lane in plan(2, [], []))
    suite = set((TESTS / "contract" / "drivers").glob("test_*.py"))
    assert suite
    assert suite <= waiting
    assert not suite & computing


def test_on_one_core_everything_comes_one_after_another():
    (lane,) = plan(1, ["-k", "x"], ["chaos-short"])
    first, second = lane.programs
    assert [*first[-4:]] == ["-k", "x", "-n", "0"]
    assert second == ("make", "chaos-short", "ARGS=")
    assert not ignored(lane)


@pytest.mark.parametrize("cores, computing, waiting", [(2, 1, 3), (3, 2, 4), (16, MOST, MOST)])
def test_the_lane_that_waits_has_more_processes_than_the_one_that_computes(cores, computing, waiting):
    lanes = plan(cores, [], [])
    assert [lane.programs[0][lane.programs[0].index("-n") + 1] for lane in lanes] == [str(computing), str(waiting)]


@pytest.mark.parametrize(
    "line, counts",
    [
        ("===== 2 failed, 4906 passed, 1 skipped in 321.05s (0:05:21) =====\n", "2 failed, 4906 passed, 1 skipped"),
        ("1 passed in 59.68s\n", "1 passed"),
        (
            "=================== 1 failed, 3 passed, 4 deselected, 2 errors in 3.21s ====\n",
            "2 errors, 1 failed, 3 passed",
        ),
        ("=========== 1000 walks ============\n", "1000 walks"),
        ("tests/x.py::test_it FAILED: 3 passed out of 4 in 2.00s\n", "no tests"),
        ("5 skipped words\n", "no tests"),
    ],
)
def test_closing_lines_are_counted(line, counts):
    assert told(counted(line)) == counts


@pytest.mark.parametrize(
    "statuses, status", [((0, 0), 0), ((0, 5), 0), ((5, 5), 5), ((0, 1), 1), ((5, 1), 1), ((2, 1, 0), 2), ((0, -9), -9)]
)
def test_the_worst_lane_decides(statuses, status):
    assert worst(statuses) == status


def test_a_lane_goes_on_after_a_failure_and_says_whose_each_line_is(capsys):
    first = saying("a", "= 1 failed in 1.00s =", status=1).programs[0]
    lane = Lane("a", [first, saying("a", "= 2 passed in 1.00s =").programs[0]])
    lane.run(threading.Lock())
    assert lane.statuses == [1, 0]
    assert lane.counts == {"failed": 1, "passed": 2}
    assert capsys.readouterr().out.splitlines() == [
        "a         | = 1 failed in 1.00s =",
        "a         | = 2 passed in 1.00s =",
    ]


@pytest.mark.parametrize("status", [0, 3])
def test_the_sum_comes_last_and_the_status_is_the_worst(monkeypatch, capsys, status):
    lanes = [saying("a", "= 1 passed, 1 skipped in 1.00s ="), saying("b", "= 2 passed in 1.00s =", status)]
    monkeypatch.setattr("tests.lanes.plan", lambda *_: lanes)
    assert main([]) == status
    assert capsys.readouterr().out.splitlines()[-1].startswith("together  3 passed, 1 skipped in ")

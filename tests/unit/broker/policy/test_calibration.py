"""What is told follows what came: intervals widen where they were too sure, narrow where they were not, and move."""

import random
from dataclasses import replace

import pytest

from broker.policy.calibration import LATEST, Calibration
from broker.policy.forecast import Forecast

RAW = Forecast(position=1, eta_s=30.0, low_s=10.0, high_s=60.0, sd_s=10.0, reason="loading", wait_reason="loading")


def drawn(rng, median_s, spread):
    return max(0.0, (median_s + 1.0) * rng.lognormvariate(0.0, spread) - 1.0)


def coverage(calibration, rng, median_s, spread, raw=RAW, count=2000):
    told = calibration.corrected(raw)
    return sum(told.low_s <= drawn(rng, median_s, spread) <= told.high_s for _ in range(count)) / count


def learned(rng, median_s, spread, count=LATEST, raw=RAW):
    calibration = Calibration()
    for _ in range(count):
        calibration.learn(raw, drawn(rng, median_s, spread))
    return calibration


@pytest.mark.parametrize("median_s, spread", [(30.0, 0.05), (30.0, 1.5), (5.0, 0.5), (300.0, 0.8), (2.0, 0.3)])
@pytest.mark.parametrize("seed", range(5))
def test_four_of_five_outcomes_are_within_whatever_waits_are_like(median_s, spread, seed):
    rng = random.Random(seed)
    assert 0.70 <= coverage(learned(rng, median_s, spread), rng, median_s, spread) <= 0.92


def test_what_was_told_too_low_is_told_higher_and_the_middle_is_the_middle():
    told = learned(random.Random(1), 300.0, 0.5).corrected(RAW)
    assert 200.0 < told.eta_s < 420.0
    assert told.low_s < told.eta_s < told.high_s


def test_other_loads_are_learned_within_a_window():
    rng = random.Random(2)
    calibration = learned(rng, 10.0, 0.2)
    for _ in range(LATEST):
        calibration.learn(RAW, drawn(rng, 120.0, 0.2))
    assert 0.70 <= coverage(calibration, rng, 120.0, 0.2) <= 0.92


def test_nothing_learned_is_the_forecasts_own_spread():
    told = Calibration().corrected(RAW)
    assert told.eta_s == pytest.approx(30.0, rel=0.05)
    assert 15.0 < told.low_s < 25.0
    assert 38.0 < told.high_s < 60.0


def test_a_kind_that_was_hardly_seen_borrows_from_all():
    calibration = learned(random.Random(3), 300.0, 0.5)
    other = replace(RAW, reason="draining_other")
    assert calibration.corrected(other).high_s > 100.0


def test_what_has_no_time_has_none():
    unknown = Forecast(position=1, reason="unknown: no_slot", wait_reason="no_slot")
    calibration = Calibration()
    calibration.learn(unknown, 5.0)
    assert calibration.corrected(unknown) == unknown


@pytest.mark.parametrize("actual_s", [0.0, -1.0, 1e9])
def test_odd_outcomes_leave_sound_times(actual_s):
    calibration = Calibration()
    for _ in range(30):
        calibration.learn(replace(RAW, eta_s=0.0, sd_s=0.0), actual_s)
        told = calibration.corrected(RAW)
        assert 0.0 <= told.low_s <= told.eta_s <= told.high_s < 1e30

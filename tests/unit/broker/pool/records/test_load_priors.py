"""Learned before hinted, hinted before reckoned, reckoned before nothing; and reckonings learn from each other."""

from math import exp, isclose, log

from broker.core.lease import ModelName, SlotId
from broker.core.slot import SlotState
from broker.core.snapshot import SlotView
from broker.pool.records.load_priors import LONGEST_MS, MOST_CORRECTION, load_time_s, priors_s
from broker.pool.records.rows import Statistic

A, B, C = ModelName("a"), ModelName("b"), ModelName("c")


def slot(worker="host", **priors_s):
    return SlotView(
        slot=SlotId("gpu0"), state=SlotState.OPEN, generation=1, budget_mib=1000, serves=frozenset(), worker=worker,
        load_priors_s={ModelName(model): prior_s for model, prior_s in priors_s.items()},
    )  # fmt: skip


def took(seconds):
    return Statistic(mean=round(seconds * 1000), n=1)


def test_what_was_learned_beats_the_hint_and_the_hint_the_reckoning():
    twice = Statistic(mean=4000, var=250_000, n=2)
    assert load_time_s(twice, 7000, 30.0) == (4.0, 0.5)
    assert load_time_s(took(4.0), 7000, 30.0) == (4.0, 10.0)
    assert load_time_s(Statistic(), 7000, 30.0) == (7.0, 10.0)
    assert load_time_s(Statistic(), 0, 30.0) == (30.0, 30.0)
    assert load_time_s(Statistic(), 0, 2.5) == (2.5, 5.0), "starts differ"
    assert load_time_s(Statistic(), 0, None) == (15.0, 10.0)


def test_without_any_load_the_largest_reckoning_counts_as_it_is():
    assert priors_s([slot(a=5.0, b=7.0), slot("other", a=9.0)], {A: Statistic()}) == {A: 9.0, B: 7.0}
    assert priors_s([], {}) == {}


def test_loads_of_others_on_the_host_correct_a_reckoning_the_more_of_them_there_were():
    one = priors_s([slot(a=10.0, b=20.0)], {A: took(40.0)})
    assert isclose(one[B], 40.0)
    two = priors_s([slot(a=10.0, b=20.0, c=5.0)], {A: took(40.0), C: took(20.0)})
    assert isclose(two[B], 20.0 * exp(2 * log(4.0) / 3))
    assert isclose(priors_s([slot(a=10.0, b=20.0)], {A: took(2.5)})[B], 10.0)


def test_two_slots_of_one_host_are_one_disk_and_another_host_is_another():
    found = priors_s([slot(a=10.0), slot(b=20.0), slot("other", c=20.0)], {A: took(40.0)})
    assert isclose(found[B], 40.0)
    assert found[C] == 20.0


def test_a_correction_and_its_outcome_are_bounded():
    assert priors_s([slot(a=1.0, b=20.0)], {A: took(86_400.0)})[B] == MOST_CORRECTION * 20.0
    assert priors_s([slot(a=21_600.0, b=20.0)], {A: Statistic(mean=0, n=3)})[B] == 20.0 / MOST_CORRECTION
    assert priors_s([slot(a=1.0, b=20_000.0)], {A: took(64.0)})[B] == LONGEST_MS / 1000

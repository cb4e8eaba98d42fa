"""How long somebody usually stays away."""

import pytest

from broker.policy.habits import AWAY_S, BINS, EDGES_S, FORGET_S, OWN_GAPS, TURN_PAUSE_S, Gaps, HabitsOfKind


def gaps(*seconds):
    found = Gaps()
    for gap_s in seconds:
        found.add(gap_s)
    return found


def kind(*seconds, gone=1.0):
    found = HabitsOfKind(gone)
    for gap_s in seconds:
        found.add(gap_s)
    return found


def test_the_bins_cover_half_an_hour():
    assert len(EDGES_S) == BINS + 1
    assert EDGES_S[-1] == pytest.approx(FORGET_S)
    assert list(EDGES_S) == sorted(EDGES_S)


def test_longer_gaps_are_fewer():
    some = kind(1.0, 5.0, 5.0, 60.0, 900.0)
    shares = [some.longer(float(away_s)) for away_s in range(0, 2000, 7)]
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] > 0, "some never come back"


@pytest.mark.parametrize(
    "seconds, usual_s",
    [
        ((), AWAY_S),
        ((2.0, 2.0), AWAY_S),  # no habit yet
        ((2.0, 2.0, 2.0), TURN_PAUSE_S),  # a tool may run in the middle of quick turns
        ((100.0, 100.0, 100.0), 200.0),
        ((100.0, 100.0, 100.0, 100.0, 900.0), 200.0),  # a lunch is no habit
        ((400.0, 600.0, 500.0), 1200.0),
        ((1700.0, 1700.0, 1700.0), FORGET_S),
    ],
)
def test_a_usual_gap_is_what_four_in_five_stay_within(seconds, usual_s):
    assert gaps(*seconds).usual_s(AWAY_S) == usual_s


def test_where_the_default_comes_back_soon_the_unknown_are_gone_soon():
    assert gaps().usual_s(5.0) == 5.0
    assert gaps(0.5, 0.5, 0.5).usual_s(5.0) == 5.0
    assert gaps(20.0, 20.0, 20.0).usual_s(5.0) == 40.0


def test_only_the_last_gaps_count():
    assert gaps(*[500.0] * 20, *[40.0] * OWN_GAPS).usual_s(AWAY_S) == 80.0


def test_who_always_comes_back_after_a_minute_is_due_after_half_of_it_and_gone_after_two():
    regular, many = gaps(*[60.0] * OWN_GAPS), kind(*[60.0] * 50)
    assert regular.chance(30.0, 60.0, many) > 0.9
    assert regular.chance(130.0, 60.0, many) < 0.3


def test_a_sessions_own_gaps_outweigh_its_kinds():
    quick = kind(*[2.0] * 200)
    assert gaps(*[600.0] * OWN_GAPS).chance(10.0, 60.0, quick) < 0.2 < gaps().chance(0.0, 60.0, quick)


def test_of_a_kind_that_never_comes_back_little_is_expected():
    lost = HabitsOfKind(1.0)
    for _ in range(100):
        lost.lose()
    assert gaps().chance(0.0, 60.0, lost) < 0.1

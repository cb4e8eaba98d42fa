"""How fast candidates answer: what is learned, what it is worth later, and that it stays small."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.routing.speeds import HALF_LIFE_S, MOST, Speed, Speeds


def learned(*answers, name="m"):
    speeds = Speeds()
    for now_s, first_s, tokens, over_s in answers:
        speeds.learn(name, now_s=now_s, first_s=first_s, tokens=tokens, over_s=over_s)
    return speeds


def test_nothing_is_known_of_who_never_answered():
    assert Speeds().of("m", 0.0) is None


def test_the_first_token_and_the_rate_after_it_are_learned_apart():
    speed = learned((0.0, 0.5, 100, 2.0)).of("m", 0.0)
    assert (speed.first_s, speed.tokens_per_s, speed.answers) == (0.5, 50.0, 1.0)
    assert speed.takes_s(100) == pytest.approx(2.5)


def test_an_answer_that_is_no_stream_teaches_the_rate_alone():
    speed = learned((0.0, None, 100, 4.0)).of("m", 0.0)
    assert (speed.first_s, speed.tokens_per_s) == (None, 25.0)


def test_long_answers_tell_more_of_the_rate_than_short_ones():
    speed = learned((0.0, 0.1, 1, 0.001), (0.0, 0.1, 1000, 20.0)).of("m", 0.0)
    assert speed.tokens_per_s == pytest.approx(50, rel=0.01)


def test_the_latest_answers_count_most():
    old, new = (0.0, 1.0, 100, 10.0), (4 * HALF_LIFE_S, 0.1, 100, 1.0)
    speed = learned(*[old] * 5, *[new] * 5).of("m", 4 * HALF_LIFE_S)
    assert speed.first_s == pytest.approx(0.1 + 0.9 / 17, rel=0.01)
    assert speed.tokens_per_s > 60


def test_what_is_old_is_forgotten_so_that_it_is_tried_again():
    speeds = learned((0.0, 9.0, 100, 100.0))
    assert speeds.of("m", 3.9 * HALF_LIFE_S).first_s == pytest.approx(9.0)
    assert speeds.of("m", 4.1 * HALF_LIFE_S) is None
    many = learned(*[(0.0, 9.0, 100, 100.0)] * 100)
    assert many.of("m", 10 * HALF_LIFE_S) is not None
    assert many.of("m", 11 * HALF_LIFE_S) is None


def test_a_clock_that_goes_back_makes_nothing_worth_more():
    speeds = learned((1000.0, 1.0, 10, 1.0), (0.0, 1.0, 10, 1.0))
    assert speeds.of("m", 0.0).answers == 2.0


def test_so_many_are_remembered_and_no_more():
    speeds = Speeds()
    for number in range(MOST + 10):
        speeds.learn(f"m{number}", now_s=0.0, first_s=0.1, tokens=1, over_s=0.1)
        speeds.learn("kept", now_s=0.0, first_s=0.1, tokens=1, over_s=0.1)
    assert len(speeds) == MOST
    assert speeds.of("kept", 0.0) is not None
    assert speeds.of("m0", 0.0) is None


def test_an_old_first_token_is_forgotten_though_other_answers_came_since():
    """Whole answers show no first token: what one stream showed long ago is not known any more."""
    speeds = Speeds()
    speeds.learn("m", now_s=0.0, first_s=7.0, tokens=100, over_s=10.0)
    speeds.learn("m", now_s=10 * HALF_LIFE_S, first_s=None, tokens=0, over_s=0.0)
    assert speeds.of("m", 10 * HALF_LIFE_S) == Speed(answers=pytest.approx(1.0, abs=0.01))


@example([(41334.0, 3599.0, 0, 0.0), (42439.0, None, 0, 0.0), (999699.0, None, 0, 0.0)])
@given(st.lists(st.tuples(
    st.floats(0, 1e6), st.none() | st.floats(-1, 1e9), st.integers(-5, 10**12), st.floats(-1, 1e12)
), max_size=30))  # fmt: skip
def test_no_answer_poisons_what_is_known(answers):
    speeds = learned(*answers)
    speed = speeds.of("m", max((answer[0] for answer in answers), default=0.0))
    if speed is not None:
        assert 0 <= (speed.first_s or 0) <= 3600.001
        assert 0 <= (speed.tokens_per_s or 0) < float("inf")
        assert 0 <= speed.takes_s(256) < float("inf")

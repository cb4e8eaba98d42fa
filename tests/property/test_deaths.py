"""No party takes a model from others by what its requests do to the model's server."""

from hypothesis import given
from hypothesis import strategies as st

from broker.gateway.trust.deaths import Death, culprit_of, died, is_the_models_own, survived
from tests.unit.broker.gateway.trust.test_deaths import OLD, RULES, is_banned, suspect

PARTS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([50, 500, 50_000]), st.booleans()), max_size=3)
STORY = st.lists(st.tuples(st.booleans(), PARTS, PARTS, st.floats(1, 900)), max_size=40)


@given(STORY)
def test_no_party_that_kills_a_server_takes_the_model_from_who_asks_for_something_else(story):
    """A fool is in flight in every death, with whatever; others come and go. A short plain request is always served."""
    known, now_s = OLD, 0.0
    for dies, fools, others, pause_s in story:
        now_s += pause_s
        bad = [suspect(f"fool/{n}", f"{n}-{size}", size, ("pictures",) * marked) for n, size, marked in fools]
        good = [suspect(f"other{n}/{n}", f"o{n}-{size}-{now_s}", 900, ()) for n, size, _ in others]
        if dies and bad:
            known = died(known, Death(at_s=now_s, slot="gpu0", suspects=(*bad, *good)), RULES)
        for one in good:
            known = survived(known, one.traits.size, lambda one=one: one)
        assert not is_the_models_own(known, now_s, RULES)
        for who in ("newcomer/1", *(one.source.session for one in good)):
            assert not is_banned(known, suspect(who, "new", 900), now_s)
        assert culprit_of(known, RULES) is None or not culprit_of(known, RULES).fits(suspect("newcomer/1", "new", 900))

"""What a model's server dies of is refused, as narrowly as the deaths allow; others are served."""

import pytest

from broker.gateway.trust.deaths import (
    BAN_TRANSITIONS,
    LONG,
    MAX_BANS,
    MAX_DEATHS,
    Ban,
    BanEvent,
    CommonTraits,
    Death,
    DeathRules,
    Mortality,
    Suspect,
    banned,
    died,
    is_the_models_own,
    next_ban,
    survived,
    told,
)
from broker.gateway.trust.suspicion import SuspicionSettings
from broker.gateway.trust.testimony import RequestSource
from broker.gateway.trust.traits import Traits, traits_of

RULES = DeathRules(pause_s=SuspicionSettings().pause_s)
CHAT = "calls of /v1/chat/completions"


def suspect(who="k/s", request=None, size=100, marks=(), *, seen=True):
    party = who.split("/", maxsplit=1)[0]
    traits = Traits(size=size, marks=(*marks, CHAT)) if seen else None
    return Suspect(
        source=RequestSource(party=party, session=who),
        request=f"{who}-{size}-{marks}" if request is None else request,
        traits=traits,
    )


def after(*deaths, start=Mortality(), at_s=0.0, lived=()):  # noqa: B008 - frozen
    """Deaths, a minute apart; each is the suspects in flight. ``lived``: what was survived after each."""
    known = start
    for number, suspects in enumerate(deaths):
        known = died(known, Death(at_s=at_s + 60.0 * number, slot="gpu0", suspects=tuple(suspects)), RULES)
        for one in lived:
            known = survived(known, one.traits.size, lambda one=one: one)
    return known


def is_banned(known, one, now_s):
    return banned(known, lambda: one, now_s)[1] is not None


def different(who, count=3, **more):
    return [[suspect(who, f"r{number}", **more)] for number in range(count)]


OLD = survived(Mortality(), 900, lambda: suspect(size=900))
"""A model that has answered before."""


@pytest.mark.parametrize(
    "deaths, lived, common, words",
    [
        ([[suspect(request="x")]] * 3, [], "request", "one and the same request"),
        (
            different("k/s", size=240_000),
            [],
            "length",
            "prompts of 216 kB, about 54,000 tokens, and longer ones",
        ),
        (different("k/s", marks=("pictures",)), [suspect("l/t")], "mark", "requests with pictures"),
        (different("k/s", size=240_000, marks=("tools",)), [suspect("l/t", marks=("tools",))], "length", ""),
        (
            different("k/s", marks=("pictures",)),
            [suspect("l/t"), suspect("l/u", marks=("pictures",))],
            "session",
            "the requests of one session",
        ),
        (different("k/s"), [], "session", "the requests of one session"),
        ([[suspect(f"k/{n}", f"r{n}")] for n in range(3)], [], "party", "the requests of one API key"),
        ([[suspect(f"{n}/s", f"r{n}")] for n in range(3)], [], None, ""),
        ([[suspect(f"{n}/s", f"r{n}", size=LONG + n)] for n in range(3)], [], "length", ""),
        ([[suspect(f"{n}/s", f"r{n}", size=LONG)] for n in range(3)], [suspect(size=LONG)], None, ""),
        ([[suspect(f"{n}/s", f"r{n}", size=LONG - 1)] for n in range(3)], [], None, ""),
        ([[suspect(request="x")]] * 2, [], None, ""),
        ([[suspect(request="x")], [], [suspect(request="x")]], [], None, ""),
        ([[suspect("k/s", "", seen=False)]] * 3, [], "session", ""),
    ],
)
def test_the_narrowest_that_explains_the_last_deaths_is_banned(deaths, lived, common, words):
    known = after(*deaths, start=OLD, lived=lived)
    assert [ban.culprit.common for ban in known.bans] == ([common] if common else [])
    assert words in (known.bans[0].culprit.words() if common else "")
    now_s = 60.0 * len(deaths)
    if common:
        assert is_banned(known, deaths[-1][0], now_s - 1)
        assert known.bans[0].culprit.words() in told(known, now_s - 1, RULES)


def test_a_length_is_blamed_only_where_shorter_ones_were_survived():
    assert after(*different("k/s", size=240_000)).bans[0].culprit.common is CommonTraits.SESSION


def test_what_is_nearly_as_long_is_refused_too_unless_as_much_was_survived():
    known = after(*different("k/s", size=100_000), start=OLD)
    assert is_banned(known, suspect("l/t", size=95_000), 121.0)
    assert not is_banned(known, suspect("l/t", size=80_000), 121.0)
    start = survived(OLD, 96_000, lambda: suspect(size=96_000))
    known = after(*different("k/s", size=100_000), start=start)
    assert not is_banned(known, suspect("l/t", size=96_000), 121.0)
    assert is_banned(known, suspect("l/t", size=96_001), 121.0)


def test_whoever_sends_a_kind_that_kills_is_refused_and_nobody_else():
    known = after(*different("k/s", size=240_000), start=OLD)
    assert is_banned(known, suspect("l/t", size=240_000), 121.0)
    assert not is_banned(known, suspect("k/s", size=10_000), 121.0)
    known = after(*different("k/s"), start=OLD)
    assert is_banned(known, suspect("k/s", "other"), 121.0)
    assert not is_banned(known, suspect("k/t"), 121.0)


def test_of_those_who_were_there_each_time_the_one_that_was_answered_most_is_not_the_culprit():
    both = [[suspect("good/s", f"g{n}"), suspect("bad/s", f"b{n}")] for n in range(3)]
    known = after(*both, start=OLD, lived=[suspect("good/s", "other")])
    assert is_banned(known, suspect("bad/s"), 121.0)
    assert not is_banned(known, suspect("good/s"), 121.0)


def test_a_ban_ends_in_a_trial_and_one_that_fails_doubles_the_pause():
    known, now_s, pauses = after(*[[suspect(request="x")]] * 3), 120.0, []
    for _ in range(9):
        (ban,) = known.bans
        pauses.append(ban.until_s - now_s)
        now_s = ban.until_s
        assert is_banned(known, suspect(request="x"), now_s - 0.1)
        known, refused = banned(known, lambda: suspect(request="x"), now_s)
        assert (refused, known.bans[0].state) == (None, Ban.TRIAL)
        known = died(known, Death(at_s=now_s, slot="gpu0", suspects=(suspect(request="x"),)), RULES)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_others_of_its_kind_that_were_in_flight_do_not_make_a_ban_longer():
    known = after(*[[suspect(request="x")]] * 3)
    again = died(known, Death(at_s=121.0, slot="gpu1", suspects=(suspect(request="x"),)), RULES)
    assert again.bans == known.bans


def test_one_that_is_survived_lifts_its_ban():
    known = after(*different("k/s", size=240_000), start=OLD)
    known, _ = banned(known, lambda: suspect("l/t", size=300_000), 500.0)
    known = survived(known, 300_000, lambda: suspect("l/t", size=300_000))
    assert known.bans == ()
    assert not is_banned(known, suspect(size=240_000), 501.0)


def test_deaths_that_nobody_can_have_caused_alone_are_the_models_own():
    several = [[suspect(f"{n}/s", f"r{n}")] for n in range(5)]
    assert not is_the_models_own(after(*several[:4]), 300.0, RULES)
    assert is_the_models_own(after(*several), 300.0, RULES)
    assert not is_the_models_own(after(*several), 300.0 + RULES.forget_s, RULES)
    assert is_the_models_own(after(*[[]] * 5), 300.0, RULES), "nothing was in flight"
    two = [[suspect(f"{n % 2}/s", f"r{n}")] for n in range(6)]
    assert is_the_models_own(after(*two), 400.0, RULES)


def test_deaths_of_which_one_party_had_the_most_are_not_the_models_own():
    parties = ["a", "a", "b", "a", "a"]
    known = after(*[[suspect(f"{party}/{n}", f"r{n}")] for n, party in enumerate(parties)])
    assert known.bans == ()
    assert not is_the_models_own(known, 300.0, RULES)


def test_deaths_are_forgotten_and_bounded():
    known = after(*[[suspect(f"{n}/s", f"r{n}")] for n in range(40)])
    assert len(known.deaths) == MAX_DEATHS
    assert "16 times" in told(known, 2400.0, RULES)
    assert told(known, 2400.0 + RULES.forget_s, RULES) == ""
    known = died(known, Death(at_s=1e5, slot="gpu0"), RULES)
    assert len(known.deaths) == 1
    for number in range(3 * MAX_BANS):
        known = after(*[[suspect(f"{number}/s", f"x{number}")]] * 3, start=known, at_s=1e5 + 200 * number)
    assert len(known.bans) == MAX_BANS


def test_it_is_told_without_anybodys_name():
    known = after(*different("secret-key/secret-session", size=240_000, marks=("pictures",)), start=OLD)
    line = told(known, 130.0, RULES)
    assert "secret" not in line
    assert "died 3 times" in line
    assert "240 kB, about 60,000 tokens, with pictures" in line


@pytest.mark.parametrize("state", Ban)
@pytest.mark.parametrize("event", BanEvent)
def test_the_table_says_all(state, event):
    if event in BAN_TRANSITIONS[state]:
        assert next_ban(state, event) is BAN_TRANSITIONS[state][event]
    else:
        with pytest.raises(KeyError):
            next_ban(state, event)


@pytest.mark.parametrize(
    "path, body, marks",
    [
        ("/chat/completions", b'{"messages": [{"content": [{"type": "image_url", "image_url": {}}]}]}', ["pictures"]),
        ("/messages", b'{"messages": [{"content": [{"type":"image","source":{}}]}]}', ["pictures"]),
        ("/chat/completions", b'{"messages": [{"content": "say \\"image_url\\""}]}', []),
        ("/audio/transcriptions", b'--x\r\nContent-Disposition: form-data; filename="a.WAV"', ["sound"]),
        ("/chat/completions", b'{"grammar": "x"}', ["a grammar or a schema"]),
        (
            "/chat/completions",
            b'{"response_format":{"type":"json_schema","json_schema":{}}}',
            ["a grammar or a schema"],
        ),
        ("/chat/completions", b'{"n": 4, "logprobs": true}', ["several choices", "token probabilities"]),
        ("/chat/completions", b'{"n": 1, "logprobs": false, "tools": []}', []),
        ("/chat/completions", b'{"tools": [{"type": "function"}]}', ["tools"]),
    ],
)
def test_what_a_request_is_like(path, body, marks):
    assert traits_of(path, body) == Traits(size=len(body), marks=(*marks, f"calls of /v1{path}"))

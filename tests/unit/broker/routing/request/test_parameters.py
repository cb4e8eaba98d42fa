"""What a name changes about a request."""

import pytest

from broker.routing.capability import Unfit, unable
from broker.routing.catalogue import Abilities, Alias, Cloud, Local, Prices, Variant, table_of
from broker.routing.decision import RouteReason
from broker.routing.privacy.firewall import Firewall
from broker.routing.request.parameters import NOTHING, Parameters
from broker.routing.request.request import Content, Described, RequestKind
from broker.routing.route import Router, RouteState
from broker.routing.variants import ModelState

MODEL = Parameters(strip=frozenset({"top_p"}), default={"seed": b"1", "effort": b'"mid"'}, set={"top_k": b"20"})
THINK = Parameters(strip=frozenset({"stop"}), default={"seed": b"2"}, set={"effort": b'"high"', "top_k": b"40"})


def applied(parameters: Parameters, fields: dict[str, bytes]) -> dict[str, bytes]:
    return parameters.apply(fields, bytes)


def test_fields_are_stripped_then_filled_then_set():
    fields = {"model": b'"a"', "top_p": b"0.1", "top_k": b"1", "effort": b'"low"'}
    assert applied(MODEL, fields) == {"model": b'"a"', "top_k": b"20", "effort": b'"low"', "seed": b"1"}
    assert applied(NOTHING, fields) == fields
    assert (bool(MODEL), bool(NOTHING)) == (True, False)


def test_what_is_stripped_may_be_filled_again():
    assert applied(Parameters(strip=frozenset({"t"}), default={"t": b"0"}), {"t": b"1"}) == {"t": b"0"}


def test_the_name_that_was_asked_for_has_the_last_word_and_twice_is_as_once():
    both = MODEL.within(THINK)
    assert applied(both, {"stop": b"[]", "top_p": b"1"}) == {"seed": b"2", "effort": b'"high"', "top_k": b"40"}
    assert both == MODEL.within(both)
    assert NOTHING.within(THINK) == THINK == THINK.within(NOTHING)


def test_names_that_lead_to_names_add_up():
    table = table_of(
        [Local(name="a", variants=(Variant(name="a", memory_mib=1),), parameters=MODEL)],
        [
            Alias(name="a:think", candidates=("a",), parameters=THINK),
            Alias(name="deep", candidates=("a:think",), parameters=Parameters(set={"top_k": b"1"})),
            Alias(name="plain", candidates=("a",)),
        ],
    )
    found = {name: entry.candidates[0].parameters for name, entry in table.entries.items()}
    assert (found["a"], found["plain"]) == (MODEL, MODEL)
    assert found["a:think"] == MODEL.within(THINK)
    assert applied(found["deep"], {}) == {"seed": b"2", "effort": b'"high"', "top_k": b"1"}


@pytest.mark.parametrize(
    "parameters, asked, room",
    [
        (NOTHING, 5, 5),
        (NOTHING, None, None),
        (Parameters(set={"max_tokens": b"9"}), 5, 9),
        (Parameters(default={"max_tokens": b"9"}), 5, 5),
        (Parameters(default={"max_tokens": b"9", "max_completion_tokens": b"12"}), None, 12),
        (Parameters(strip=frozenset({"max_tokens"})), 5, None),
        (Parameters(strip=frozenset({"max_tokens"}), default={"max_tokens": b"9"}), 5, 9),
        (Parameters(set={"max_tokens": b'"9"'}), 5, 5),
    ],
)
def test_the_room_for_the_reply_is_what_the_request_is_sent_with(parameters, asked, room):
    assert parameters.reply_tokens(asked) == room


def test_a_model_is_asked_for_no_more_than_fits_what_its_name_makes_of_the_request():
    small = Local(
        name="a",
        variants=(Variant(name="a", memory_mib=1),),
        abilities=Abilities(context_tokens=100),
        parameters=Parameters(set={"max_tokens": b"90"}),
    )
    asked = Described(name="a", kind=RequestKind.CHAT, content=Content(prompt_tokens=20, reply_tokens=5))
    assert unable(small, asked) is Unfit.CONTEXT


def test_what_a_name_makes_of_a_request_is_put_aside_for_it():
    cloud = Cloud(
        name="c",
        upstream="u",
        remote_name="c",
        prices=Prices(reply=1_000_000),
        parameters=Parameters(set={"max_tokens": b"500"}),
    )
    router = Router(table=table_of([cloud]), firewall=Firewall(find_secret=lambda _text: False))
    asked = Described(name="c", kind=RequestKind.CHAT, content=Content(reply_tokens=5))
    assert router.route(asked, RouteState()).choices[0].reserve_micro == 500


def test_an_upstream_without_prices_is_the_dearest_and_is_not_asked_under_a_budget():
    table = table_of(
        [
            Local(name="a", variants=(Variant(name="a", memory_mib=1),)),
            Cloud(name="unpriced", upstream="u", remote_name="x", prices=None),
            Cloud(name="dear", upstream="u", remote_name="y", prices=Prices(prompt=10**9, reply=10**9)),
        ],
        [Alias(name="any", candidates=("unpriced", "dear", "a"))],
    )
    router = Router(table=table, firewall=Firewall(find_secret=lambda _text: False))
    asked = Described(name="any", kind=RequestKind.CHAT, content=Content(prompt_tokens=1000, reply_tokens=10))
    here = RouteState(models={"a": ModelState(ready=True, wait_s=0.0)})
    assert [one.model for one in router.route(asked, here).choices] == ["a", "dear", "unpriced"]
    limited = router.route(asked, RouteState(allowance_micro=10**15))
    assert [one.model for one in limited.choices] == ["dear"]
    refused = router.route(
        Described(name="unpriced", kind=RequestKind.CHAT, content=Content()), RouteState(allowance_micro=10**15)
    )
    assert refused.reason is RouteReason.BUDGET_REFUSED

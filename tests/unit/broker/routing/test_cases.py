"""Every row of docs/routing-cases.md and docs/routing.md is what the rules decide."""

import re

import pytest

from broker.routing.capability import Unfit
from broker.routing.decision import Route, RouteReason
from broker.routing.privacy.firewall import Because
from broker.routing.privacy.indicators import Sign
from tests.fakes.routing_cases import ROOT, cases_of, request_of, router_of, state_of, told

PAGES = ("docs/routing-cases.md", "docs/routing.md")
OWNERS = {Sign.SCREENSHOT, Sign.CAMERA, Sign.PASSWORD, Sign.CREDENTIAL, Sign.LOCAL_PATH}
CASES = [case for page in PAGES for case in cases_of(page)]
ROUTER = router_of()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_row_is_what_is_decided(case):
    assert told(ROUTER.route(request_of(case.request), state_of(case.state, ROUTER))) == case.decision


def test_the_tables_are_long_enough_and_no_row_comes_twice():
    rows = [str(case) for case in cases_of(PAGES[0])]
    assert len(rows) == len(set(rows)) >= 150


def test_the_rows_show_every_reason_every_mark_and_every_way_to_be_passed_over():
    decisions = [ROUTER.route(request_of(case.request), state_of(case.state, ROUTER)) for case in CASES]
    assert {decision.reason for decision in decisions} == set(RouteReason)
    beyond_the_tables = {Because.SCANNER, Because.UNSETTLED}
    assert {decision.private for decision in decisions} - {None} == set(Because) - beyond_the_tables | OWNERS
    assert {one.why for decision in decisions for one in decision.passed_over} == set(Unfit)


def test_the_page_lists_every_reason_with_its_route():
    page = (ROOT / "docs/routing.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+)` \| (local|upstream|house|refused|any) \|", page, re.MULTILINE))
    assert set(listed) == set(RouteReason)
    for case in CASES:
        decision = ROUTER.route(request_of(case.request), state_of(case.state, ROUTER))
        where = {Route.LOCAL: {"local", "house"}, Route.INSIDE: {"upstream", "house"}, Route.CLOUD: {"upstream"}}
        assert listed[decision.reason] in where.get(decision.route, {"refused"}) | {"any"}
        assert (decision.route is Route.REFUSED) == (not decision.choices)

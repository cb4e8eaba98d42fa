"""Rules of names: which holds, wherever the name is named, and what is known of a name whatever its rules say."""

import pytest

from broker.routing.catalogue import Alias, CatalogueError, Entry, Local, Prefer, Rule, Variant, table_of
from broker.routing.request.effort import Effort
from broker.routing.request.nature import Nature, NatureTold, When, nature_of
from broker.routing.request.purpose import Task
from broker.routing.request.request import Content, Described, RequestKind

LOCALS = [Local(name=name, variants=(Variant(name=name, memory_mib=1),)) for name in "abcdef"]
CODE, DEEP = When(tasks=frozenset({Task.CODE})), When(efforts=frozenset({Effort.HIGH}))


def names(entry: Entry, **nature) -> list[str]:
    return [one.name for one in entry.meant(Nature(**nature)).candidates]


def test_the_first_rule_whose_conditions_all_hold_counts():
    both = When(tasks=frozenset({Task.CODE}), efforts=frozenset({Effort.HIGH}))
    rules = (Rule(when=both, candidates=("b",)), Rule(when=CODE, candidates=("c",)), Rule(when=DEEP, candidates=("d",)))
    entry = table_of(LOCALS, [Alias(name="x", candidates=("a",), rules=rules)]).entries["x"]
    assert names(entry) == ["a"]
    assert names(entry, task=Task.CODE) == ["c"]
    assert names(entry, effort=Effort.HIGH) == ["d"]
    assert names(entry, task=Task.CODE, effort=Effort.HIGH) == ["b"]
    assert [entry.meant(Nature(task=task)).rule for task in (None, Task.CODE)] == [0, 2]


@pytest.mark.parametrize(
    "when, nature, holds",
    [
        (When(), {}, True),
        (When(min_tool_calls=3), {"tool_calls": 2}, False),
        (When(min_tool_calls=3), {"tool_calls": 3}, True),
        (When(min_schema_depth=2), {"schema_depth": 1}, False),
        (When(min_schema_depth=2), {"schema_depth": 2}, True),
        (CODE, {"task": None}, False),
        (DEEP, {"effort": None}, False),
        (When(efforts=frozenset({Effort.NONE})), {"effort": None}, False),
        (When(efforts=frozenset({Effort.NONE, Effort.LOW})), {"effort": Effort.LOW}, True),
    ],
)
def test_a_condition_holds_from_its_number_on_and_not_for_what_is_not_said(when, nature, holds):
    assert when.holds(Nature(**nature)) is holds


def test_a_rule_holds_wherever_its_alias_is_named():
    inner = Alias(name="inner", candidates=("a", "b"), rules=(Rule(when=CODE, candidates=("c",)),))
    outer = Alias(name="outer", candidates=("d", "inner", "a"), rules=(Rule(when=DEEP, candidates=("inner", "e")),))
    entry = table_of(LOCALS, [inner, outer]).entries["outer"]
    assert names(entry) == ["d", "a", "b"]
    assert names(entry, task=Task.CODE) == ["d", "c", "a"]
    assert names(entry, effort=Effort.HIGH) == ["a", "b", "e"]
    assert names(entry, task=Task.CODE, effort=Effort.HIGH) == ["c", "e"]
    assert entry.meant(Nature(task=Task.CODE)).rule == 0, "the outer name's own"


def test_what_is_known_of_a_name_holds_for_all_that_its_rules_lead_to():
    alias = Alias(name="x", candidates=("a",), rules=(Rule(when=CODE, candidates=("b",)),))
    table = table_of(LOCALS, [alias, Alias(name="y", candidates=("x",))], private=frozenset({"b"}))
    for name in ("x", "y"):
        entry = table.entries[name]
        assert entry.private, "it may lead to a private one"
        assert [one.name for one in entry.candidates] == ["a", "b"]
        assert [one.name for one in entry.usual] == ["a"]
    assert not table.entries["a"].private


def test_a_rules_own_preference_and_deadline_take_the_place_of_the_aliass():
    rules = (
        Rule(when=CODE, candidates=("b",), prefer=Prefer.FASTEST, deadline_s=5.0),
        Rule(when=DEEP, candidates=("c",)),
    )
    alias = Alias(name="x", candidates=("a",), prefer=Prefer.LISTED, deadline_s=60.0, rules=rules)
    entry = table_of(LOCALS, [alias]).entries["x"]
    found = [entry.meant(Nature(task=task, effort=effort)) for task, effort in (
        (Task.CODE, None), (None, Effort.HIGH), (None, None))]  # fmt: skip
    assert [(one.prefer, one.deadline_s) for one in found] == [
        (Prefer.FASTEST, 5.0), (Prefer.LISTED, 60.0), (Prefer.LISTED, 60.0)]  # fmt: skip
    assert entry.asks_for_speed


def test_a_loop_through_a_rule_is_refused_and_so_is_a_name_nobody_has():
    with pytest.raises(CatalogueError, match="x → y → x"):
        table_of(LOCALS, [
            Alias(name="x", candidates=("a",), rules=(Rule(when=CODE, candidates=("y",)),)),
            Alias(name="y", candidates=("x",)),
        ])  # fmt: skip
    with pytest.raises(CatalogueError, match="'x': 'zzz' is no model"):
        table_of(LOCALS, [Alias(name="x", candidates=("a",), rules=(Rule(when=CODE, candidates=("zzz",)),))])


@pytest.mark.parametrize(
    "header, key, alias, task, told",
    [
        (Task.CHAT, Task.CODE, Task.SUMMARY, Task.CHAT, NatureTold.HEADER),
        (None, Task.CODE, Task.SUMMARY, Task.CODE, NatureTold.KEY),
        (None, None, Task.SUMMARY, Task.SUMMARY, NatureTold.ALIAS),
        (None, None, None, Task.CHAT, NatureTold.REQUEST),
    ],
)
def test_the_header_says_what_it_is_for_then_the_key_then_the_alias_then_the_request(header, key, alias, task, told):
    request = Described(name="x", kind=RequestKind.CHAT, content=Content(), task=header, usual_task=key)
    assert (nature_of(request, alias).task, nature_of(request, alias).told) == (task, told)


def test_pictures_and_sound_show_no_task():
    assert nature_of(Described(name="x", kind=RequestKind.OTHER, content=Content()), None).task is None

"""Forms of names: which one counts, and that none takes long."""

import pytest

from broker.routing.catalogue import Alias, CatalogueError, Habits, Local, Variant, table_of
from broker.routing.text.wildcards import Wildcards, is_wildcard

LOCALS = [Local(name=name, variants=(Variant(name=name, memory_mib=1),)) for name in ("a", "b", "c", "gpt-oss-20b")]


def led(table, name):
    entry = table.find(name)
    return entry and [one.name for one in entry.candidates]


@pytest.mark.parametrize(
    "name, meant",
    [
        ("gpt-4o-mini", "three"),
        ("gpt-4o", "two"),
        ("gpt-5", "one"),
        ("gpt-", "one"),
        ("gpt-x1", "sign"),
        ("claude-3", "all"),
        ("GPT-5", "all"),
    ],
)
def test_the_most_specific_form_counts_whatever_the_order(name, meant):
    forms = [("*", "all"), ("gpt-*", "one"), ("gpt-4o-*", "three"), ("gpt-4*", "two"), ("gpt-x?", "sign")]
    assert Wildcards(forms).find(name) == Wildcards(reversed(forms)).find(name) == meant


def test_equals_are_taken_as_written_and_one_star_before_two():
    assert Wildcards([("a*c", 1), ("*ac", 2)]).find("ac") == 1
    assert Wildcards([("*a*", 1), ("a*", 2)]).find("a") == 2
    assert Wildcards([("gpt-*", 1)]).find("claude") is None
    assert Wildcards([("a[b]*", 1)]).find("a[b]c") == 1


def test_an_earlier_group_comes_first_however_general_it_is():
    assert Wildcards([("g*", "own")], [("gpt-*", "built in")]).find("gpt-5") == "own"


def test_many_stars_take_no_long_time():
    forms = Wildcards([("*a" * 40, 1)])
    assert forms.find("a" * 127 + "b") is None


def test_a_form_shadows_no_name_and_is_none_itself():
    aliases = [Alias(name="gpt-*", candidates=("a",)), Alias(name="gpt-5", candidates=("b",))]
    table = table_of(LOCALS, aliases)
    assert led(table, "gpt-oss-20b") == ["gpt-oss-20b"]
    assert led(table, "gpt-5") == ["b"]
    assert led(table, "gpt-5.1") == ["a"]
    assert table.find("nobody") is None
    assert set(table.entries) == {"a", "b", "c", "gpt-oss-20b", "gpt-5"}
    assert is_wildcard("gpt-*")
    assert not is_wildcard("gpt-5")


def test_names_of_other_makers_mean_the_default_where_there_is_one():
    forms = ("gpt-*", "claude-*")
    assert table_of(LOCALS, habits=Habits(to_default=forms)).find("gpt-5") is None
    table = table_of(LOCALS, [Alias(name="gpt-4*", candidates=("b",))], habits=Habits(default="c", to_default=forms))
    assert led(table, "claude-sonnet-4-6") == led(table, "gpt-5") == ["c"]
    assert led(table, "gpt-4o") == ["b"]
    assert led(table, "gpt-oss-20b") == ["gpt-oss-20b"]
    assert led(table, "gemini-3") is None
    with pytest.raises(CatalogueError, match="default: 'zzz' is no model"):
        table_of(LOCALS, habits=Habits(default="zzz"))


def test_a_form_that_leads_to_a_private_name_is_private():
    habits = Habits(default="a", to_default=("gpt-*",))
    table = table_of(LOCALS, [Alias(name="x*", candidates=("a",))], private=frozenset({"a"}), habits=habits)
    assert table.find("xy").private
    assert table.find("gpt-5").private

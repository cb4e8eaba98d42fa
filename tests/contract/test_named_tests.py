"""docs/guarantees.md and docs/compatibility.md name tests; each must exist, and each promise must name one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAST = {"docs/guarantees.md": 240, "docs/compatibility.md": 60}
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`|\[`(\w+)`\]\(\.\./(tests/[\w/]+\.py)\)")
"""As ``file::test``, or as a link from the test's name to its file."""


def named_in(text):
    return {(file or linked, name or shown) for file, name, shown, linked in NAMED.findall(text)}


def text_of(page):
    return (ROOT / page).read_text()


def promises():
    """Every item of the lists under "Promised", with the tests that show it."""
    promised = re.search(r"^## Promised$(.*?)^## ", text_of("docs/guarantees.md"), re.MULTILINE | re.DOTALL)[1]
    return re.findall(r"^\* (.*?)(?=^\* |^#|\Z)", promised, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("file,name", sorted({named for page in LEAST for named in named_in(text_of(page))}))
def test_a_promise_names_a_test_that_exists(file, name):
    tree = ast.parse((ROOT / file).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names


def test_every_promise_says_which_tests_show_it():
    assert [
        promise for promise in promises() if not re.search(r"\.\s+Shown\s+by\s", promise) or not named_in(promise)
    ] == []


def test_nothing_that_looks_like_a_test_is_overlooked():
    for page in LEAST:
        looks = set(re.findall(r"\btest_\w+(?!\w*\.py)\b", re.sub(r"\btests/[\w/]+\.py\b", "", text_of(page))))
        assert looks <= {name for _, name in named_in(text_of(page))}


@pytest.mark.parametrize("page", LEAST)
def test_the_page_makes_promises(page):
    assert len(named_in(text_of(page))) >= LEAST[page]


def test_the_promises_are_many():
    assert len(promises()) >= 100

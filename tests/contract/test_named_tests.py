"""docs/guarantees.md and docs/compatibility.md name tests; each must exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAST = {"docs/guarantees.md": 25, "docs/compatibility.md": 5}


def named_in(page):
    return sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / page).read_text())))


@pytest.mark.parametrize("file,name", sorted({named for page in LEAST for named in named_in(page)}))
def test_a_promise_names_a_test_that_exists(file, name):
    tree = ast.parse((ROOT / file).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names


@pytest.mark.parametrize("page", LEAST)
def test_the_page_makes_promises(page):
    assert len(named_in(page)) >= LEAST[page]

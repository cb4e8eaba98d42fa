"""docs/guarantees.md names tests; each must exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/guarantees.md").read_text())))


@pytest.mark.parametrize("file,name", NAMED)
def test_a_promise_names_a_test_that_exists(file, name):
    tree = ast.parse((ROOT / file).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names


def test_the_page_makes_promises():
    assert len(NAMED) >= 25

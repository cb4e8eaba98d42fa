"""Above each function of the library stands what it takes and answers, and Python calls it so."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.core.errors import BY_CODE
from broker.store.redis.lua_library import FOLDER, LIBRARY

ROOT = Path(__file__).parents[2]
CALLERS = ("store", "privacy_marks", "spending", "days", "library")
"""Files of ``broker/store/redis`` that call functions of the library."""
CALLS = {"_function", "_function_once", "_reading", "_lease", "_once"}
OF_PEOPLE = {"why"}
"""Called by hand, with ``redis-cli``."""
LABELS = ("KEYS", "ARGV", "Reply", "Events", "Errors")
_NAME = re.compile(r"\[?[a-z_]+\]?(?: \([a-z ]+\))?")


@dataclass(frozen=True)
class Header:
    """What the comment above a function says."""

    parts: dict[str, str]
    """By label, in the order of the comment."""
    body: str

    @property
    def named(self) -> list[str]:
        """Arguments that have a name of their own."""
        said = re.split(r",? ?\bthen ", self.parts["ARGV"])[0].strip(", ")
        return [] if said == "none" else said.split(", ")

    @property
    def is_open(self) -> bool:
        """Do more follow, or are they declared in Python?"""
        return "then " in self.parts["ARGV"] or self.named == ["LEASE.ask"]

    @property
    def needed(self) -> int:
        """Arguments that may not be left out."""
        return sum(not name.startswith("[") for name in self.named)


def headers() -> dict[str, Header]:
    """By the function's name."""
    found = {}
    for paragraph in (FOLDER / "functions.lua").read_text().split("\n\n"):
        if name := re.search(r"^function_of\('(\w+)'", paragraph, re.MULTILINE):
            comment = " ".join(line[3:] for line in paragraph.splitlines() if line.startswith("-- "))
            words = re.split(rf"(?:^|(?<=\. ))({'|'.join(LABELS)}): ", comment)
            parts = {label: text.strip().partition(". ")[0].removesuffix(".")
                     for label, text in zip(words[1::2], words[2::2], strict=True)}  # fmt: skip
            found[name[1]] = Header(parts, paragraph)
    return found


def callers() -> Iterator[tuple[str, list[ast.expr]]]:
    """Names of functions, each with the arguments that Python hands over."""
    for file in CALLERS:
        for node in ast.walk(ast.parse((ROOT / f"broker/store/redis/{file}.py").read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                words = [one.value if isinstance(one, ast.Constant) else "" for one in node.args[:2]]
                if words[0] == "FCALL":
                    yield from [(words[-1].removeprefix(f"{LIBRARY}_"), node.args[4:])] if words[-1] else []
                elif node.func.attr in CALLS and words[0]:
                    yield words[0], node.args[1:]


def test_each_is_registered_by_the_one_way_that_is_looked_at():
    text = (FOLDER / "functions.lua").read_text()
    assert text.count("function_of('") == len(headers())
    assert text.count("register_function(") == 1


@pytest.mark.parametrize("name", headers())
def test_a_function_says_what_it_takes_answers_appends_and_refuses_with(name):
    header = headers()[name]
    assert tuple(header.parts) == LABELS
    assert all(header.parts.values())
    assert header.parts["KEYS"] == "base"
    codes = set(re.findall(r"[A-Z_]{4,}", header.parts["Errors"]))
    assert codes <= {code.upper() for code in BY_CODE}


@pytest.mark.parametrize("name", headers())
def test_a_reader_appends_no_events(name):
    header = headers()[name]
    if "'no-writes'" in header.body:
        assert header.parts["Events"] == "none"


@pytest.mark.parametrize("name", headers())
def test_arguments_have_names_and_no_more_are_read_than_have(name):
    header = headers()[name]
    assert all(_NAME.fullmatch(word) for word in header.named) or header.named == ["LEASE.ask"]
    read = max(map(int, re.findall(r"\bargs\[(\d+)\]", header.body)), default=0)
    assert read <= len(header.named) or header.is_open


def test_python_hands_over_as_many_arguments_as_have_names():
    known, called = headers(), set()
    for name, args in callers():
        header = known[name]
        called.add(name)
        fixed = sum(not isinstance(one, ast.Starred) for one in args)
        if fixed < len(args):
            assert header.is_open, f"{name} gets a list, and says nothing of one"
            assert fixed <= len(header.named), name
        else:
            assert header.needed <= fixed <= len(header.named), name
    assert called | OF_PEOPLE == set(known), "nobody calls it"

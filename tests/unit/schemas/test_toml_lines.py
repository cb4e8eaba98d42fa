"""Where a value stands, told by the parser that read it."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config.toml_lines import MAX_LINES, TomlLines

TEXT = """# a comment

[broker]
port = 1   # here
"host name" = "x"
text = '''
[model]
not = "a table"
'''

[[model]]
name = "a"
command = [
  "server",
  # a comment within
  "--port", "{port}",
]
env = { A = "1", B = "2" }
[[model]]

name = "b"
deep.dotted.key = 1
[routing]
[[routing.alias]]
name = "x"
[[routing.alias]]
name = "y"
"""


@pytest.mark.parametrize(
    "path, line",
    [
        (("broker",), 3),
        (("broker", "port"), 4),
        (("broker", "host name"), 5),
        (("broker", "text"), 6),
        (("model", 0), 11),
        (("model", 0, "name"), 12),
        (("model", 0, "command"), 13),
        (("model", 0, "command", 2), 13),
        (("model", 0, "env", "B"), 18),
        (("model", 1), 19),
        (("model", 1, "name"), 21),
        (("model", 1, "deep", "dotted", "key"), 22),
        (("routing", "alias", 1, "name"), 27),
        (("model", 2), None),
        (("model", 1, "env"), None),
        ((), None),
    ],
)
def test_a_value_stands_where_its_statement_begins(path, line):
    assert TomlLines(TEXT).line_of(path) == line


def test_of_what_is_missing_the_table_around_it_is_told():
    assert TomlLines(TEXT).deepest(("model", 1, "memory_mib")) == 19
    assert TomlLines(TEXT).deepest(("nowhere", "x")) is None


def test_of_a_file_too_long_no_lines_are_told():
    assert TomlLines("#\n" * MAX_LINES + "[broker]\n").line_of(("broker",)) is None


def _lines_of(statements):
    """Written one after the other, with the line at which each begins."""
    text, places = "", {}
    for number, (blank, form) in enumerate(statements):
        text += "\n# [x]\n" * blank
        places[f"k{number}"] = text.count("\n") + 1
        text += f"k{number} = {form}\n"
    return text, places


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["1", '"""\n\n# no\n"""', "[\n1,\n\n2,\n]", "'''\nk0 = 5'''", '"x = 1"', "{ a = 1 }"]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_statement_is_found_whatever_stands_around_it(statements):
    text, places = _lines_of(statements)
    tomllib.loads(text)
    lines = TomlLines(text)
    assert {key: lines.line_of((key,)) for key in places} == places

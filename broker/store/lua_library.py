"""The function library's text: the tables of ``broker.core`` as Lua literals, then the files of ``lua/`` in order.

``python -m broker.store.lua_library`` writes ``lua/10_tables.lua``; a test checks that the file is in step.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from broker.core.lease import PRIORITIES, RANK, TRANSITIONS
from broker.core.pool_leases import REASON_OF
from broker.core.pool_orders import DESERTED, FOR_WAITERS
from broker.core.pool_residencies import EVENT_KIND
from broker.core.pool_rows import SCHEMA
from broker.core.slot import RESIDENCY_TRANSITIONS, SLOT_TRANSITIONS

LIBRARY = "hotseat1"
VERSION = 1
"""Grows with every change of the library that brokers of another version must notice."""
TABLES_FILE = "10_tables.lua"
_HASH_MARK = "@hash@"


State = TypeVar("State", bound=StrEnum)
Arrow = TypeVar("Arrow", bound=StrEnum)


def _table(rows: Mapping[State, Mapping[Arrow, State]], name: str) -> str:
    lines = [f"local {name} = {{"]
    for state, arrows in rows.items():
        pairs = ", ".join(f"{event.value} = '{to.value}'" for event, to in arrows.items())
        lines.append(f"  {state.value} = {{{pairs}}},")
    return "\n".join([*lines, "}"])


def _flat(pairs: Mapping[str, str], name: str) -> str:
    words = [f"  {key} = {value}," for key, value in pairs.items()]
    return "\n".join([f"local {name} = {{", *words, "}"])


def render_tables() -> str:
    """The tables of the core as Lua literals."""
    kinds = {event.value: f"'{kind}'" for (_, event), kind in EVENT_KIND.items()}
    parts = [
        "-- Rendered from broker/core by `python -m broker.store.lua_library`: do not edit.",
        f"local SCHEMA = '{SCHEMA}'",
        f"local VERSION = '{VERSION}'",
        f"local HASH = '{_HASH_MARK}'",
        f"local PRIORITIES = {{{', '.join(repr(priority.value) for priority in PRIORITIES)}}}",
        _flat({priority.value: str(rank) for priority, rank in RANK.items()}, "RANK"),
        _flat({event.value: f"'{reason.value}'" for event, reason in REASON_OF.items()}, "REASON_OF"),
        _table(TRANSITIONS, "TRANSITIONS"),
        _table(SLOT_TRANSITIONS, "SLOT_TRANSITIONS"),
        _table(RESIDENCY_TRANSITIONS, "RESIDENCY_TRANSITIONS"),
        _flat(kinds, "RESIDENCY_KIND"),
        _flat(dict.fromkeys(sorted(FOR_WAITERS), "true"), "FOR_WAITERS"),
        f"local DESERTED = '{DESERTED}'",
    ]
    return "\n".join(parts) + "\n"


@cache
def library_source() -> str:
    """What ``FUNCTION LOAD`` gets. Its hash is inside, so that a broker can tell whether the server has this text."""
    folder = files("broker.store") / "lua"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".lua"))
    text = "\n".join((folder / name).read_text() for name in names)
    source = f"#!lua name={LIBRARY}\n{text}"
    return source.replace(_HASH_MARK, hashlib.sha256(source.encode()).hexdigest()[:16])


def library_hash() -> str:
    """The hash inside ``library_source()``."""
    text = library_source()
    start = text.index("local HASH = '") + len("local HASH = '")
    return text[start : text.index("'", start)]


def main() -> None:
    """Write the tables file."""
    Path(str(files("broker.store") / "lua" / TABLES_FILE)).write_text(render_tables(), encoding="ascii")


if __name__ == "__main__":
    main()

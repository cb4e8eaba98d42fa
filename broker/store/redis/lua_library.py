"""The function library's text: the files of ``lua/`` in order, the rendered one (``lua_tables``) first."""

import hashlib
from functools import cache
from importlib.resources import files

LIBRARY = "hotseat1"
VERSION = 2
"""Grows with every change of the library that brokers of another version must notice."""
TABLES_FILE = "tables.lua"
FOLDER = files("broker.store.redis") / "lua"
FILES = (
    "tables",
    "values",
    "records/rows",
    "records/events",
    "frame",
    "records/shares",
    "records/owners",
    "records/key_limits",
    "records/statistics",
    "leases/handout",
    "leases/lifecycle",
    "records/failures",
    "leases/broker_lives",
    "leases/availability",
    "leases/acquire",
    "slots/residencies",
    "slots/orders",
    "slots/inspections",
    "slots/reports",
    "slots/beliefs",
    "slots/registration",
    "mail",
    "machine",
    "egress",
    "days",
    "views",
    "ps",
    "check",
    "functions",
)
"""In the order in which the chunk needs them: each may call what stands above it. A file bears the name of its twin in
``broker.pool``, where it has one."""
HASH_MARK = "@hash@"
"""Stands in the rendered file for the hash of the whole text."""


@cache
def library_source() -> str:
    """What ``FUNCTION LOAD`` gets. Its hash is inside, so that a broker can tell whether the server has this text."""
    text = "\n".join((FOLDER / f"{name}.lua").read_text() for name in FILES)
    source = f"#!lua name={LIBRARY}\n{text}"
    return source.replace(HASH_MARK, hashlib.sha256(source.encode()).hexdigest()[:16])


def library_hash() -> str:
    """The hash inside ``library_source()``."""
    text = library_source()
    start = text.index("local HASH = '") + len("local HASH = '")
    return text[start : text.index("'", start)]

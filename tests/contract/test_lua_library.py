"""Generated Lua is in step with the core; the library keeps to what every supported server has."""

import importlib
import re
from pathlib import Path

from broker.store.redis.lua_library import FILES, FOLDER, TABLES_FILE, library_hash, library_source
from broker.store.redis.lua_tables import render_tables

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "pool", "store")
"""Of the broker: what Lua says too is declared in one of them."""
_LOCAL = re.compile(r"^\s*(?:local )?((?:[\w.]+, )*[\w.]+) = (.+?)(?: --.*)?$", re.MULTILINE)
_DIGITS = re.compile(r"(?<![\w.])\d{5,}(?![\w.])")


def constants() -> dict[str, object]:
    """Every constant of the broker's core, pool and store that Lua could repeat, by name."""
    found: dict[str, object] = {}
    for path in (path for room in ROOMS for path in (ROOT / "broker" / room).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = vars(importlib.import_module(name.removesuffix(".__init__")))
        found |= {word: value for word, value in module.items() if word.isupper() and len(word) > 1}
    return found


def by_hand() -> dict[str, str]:
    """The Lua files that people write."""
    return {name: (FOLDER / f"{name}.lua").read_text() for name in FILES if f"{name}.lua" != TABLES_FILE}


def test_the_tables_are_those_of_the_core():
    assert (FOLDER / TABLES_FILE).read_text() == render_tables(), "run python -m broker.store.redis.lua_tables"


def test_what_python_declares_lua_does_not_declare_again():
    known = constants()
    for name, text in by_hand().items():
        for left, _ in _LOCAL.findall(text):
            again = {word.rpartition(".")[2] for word in left.split(", ")} & known.keys()
            assert not again, f"{name}.lua says what {again} is, and so does Python: render it (lua_tables.py)"


def test_no_long_number_of_lua_is_one_of_pythons():
    values = {str(value): word for word, value in constants().items() if isinstance(value, int)}
    for name, text in by_hand().items():
        twins = {number: values[number] for number in _DIGITS.findall(text) if number in values}
        assert not twins, f"{name}.lua repeats {twins}: render it (lua_tables.py)"


def test_the_library_knows_its_own_hash():
    assert re.fullmatch(r"[0-9a-f]{16}", library_hash())
    assert f"local HASH = '{library_hash()}'" in library_source()


def test_a_long_file_says_why_it_is_one():
    """Length is no reason to split; it is one to ask whether a file holds two ideas."""
    for name in FILES:
        text = (FOLDER / f"{name}.lua").read_text()
        assert len(text.splitlines()) <= 300 or "-- One file because" in text, name


def test_every_file_is_in_the_library():
    folder = Path(str(FOLDER))
    assert {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.lua")} == set(FILES)


def test_nothing_is_used_that_redis_7_0_or_fakeredis_lack():
    source = library_source()
    for word in ("cmsgpack", "bit.", "server.", "HEXPIRE", "redis.sha1hex", "loadstring", "os."):
        assert word not in source, word
    for command in re.findall(r"redis\.p?call\('(\w+)'", source):
        assert command in PORTABLE, command


PORTABLE = {
    "DEL", "EXISTS", "GET", "HDEL", "HEXISTS", "HGET", "HGETALL", "HINCRBY", "HLEN", "HMGET", "HSET", "HSTRLEN",
    "INFO", "PERSIST", "PEXPIRE", "SADD", "SCARD", "SET", "SMEMBERS", "SREM", "TIME", "TYPE", "XACK", "XADD", "XDEL",
    "XINFO", "XLEN", "XRANGE", "XREVRANGE", "ZADD", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZRANK", "ZREM",
    "ZREMRANGEBYSCORE", "ZSCORE",
}  # fmt: skip

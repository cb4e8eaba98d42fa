"""Generated Lua is in step with the core; the library keeps to what every supported server has."""

import re
from importlib.resources import files

from broker.store.lua_library import TABLES_FILE, library_hash, library_source, render_tables

FOLDER = files("broker.store") / "lua"
LOCALS_OF_A_CHUNK = 200


def test_the_tables_are_those_of_the_core():
    assert (FOLDER / TABLES_FILE).read_text() == render_tables(), "run python -m broker.store.lua_library"


def test_the_library_knows_its_own_hash():
    assert re.fullmatch(r"[0-9a-f]{16}", library_hash())
    assert f"local HASH = '{library_hash()}'" in library_source()


def test_no_file_is_longer_than_a_room():
    for entry in FOLDER.iterdir():
        assert len(entry.read_text().splitlines()) < 300, entry.name


def test_nothing_is_used_that_redis_7_0_or_fakeredis_lack():
    source = library_source()
    for word in ("cmsgpack", "bit.", "server.", "HEXPIRE", "redis.sha1hex", "loadstring", "os."):
        assert word not in source, word
    for command in re.findall(r"redis\.p?call\('(\w+)'", source):
        assert command in PORTABLE, command


PORTABLE = {
    "DEL", "EXISTS", "GET", "HDEL", "HEXISTS", "HGET", "HGETALL", "HINCRBY", "HLEN", "HMGET", "HSET", "INFO", "PERSIST",
    "PEXPIRE", "SADD", "SET", "SMEMBERS", "SREM", "TIME", "XACK", "XADD", "XDEL", "XINFO", "XLEN", "XRANGE",
    "XREVRANGE", "ZADD", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZRANK", "ZREM", "ZREMRANGEBYSCORE", "ZSCORE",
}  # fmt: skip

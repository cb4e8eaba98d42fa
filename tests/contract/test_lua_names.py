"""Names in the library: one table of the chunk for a file, nothing global; as Lua's own compiler sees it."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from lupa.lua51 import LuaRuntime

from broker.store.redis.lua_library import FILES, FOLDER, library_source

MOST_NAMES = 100
"""A chunk of Lua has room for 200, and a block within it for what those leave."""
GIVEN = {
    "cjson", "error", "getmetatable", "ipairs", "math", "pairs", "pcall", "rawget", "rawset", "redis", "setmetatable",
    "string", "table", "tonumber", "tostring", "type", "unpack",
}  # fmt: skip
"""Globals of every supported server that the library uses."""
OF_THE_CHUNK = ("tables", "values")
"""Files whose names are those of the chunk: what is rendered from Python, and what every file says."""
GET_GLOBAL, SET_GLOBAL = 5, 7


@dataclass
class Compiled:
    """A function of Lua 5.1 as ``string.dump`` writes it."""

    code: tuple[int, ...] = ()
    constants: list[str | None] = field(default_factory=list)
    inner: list["Compiled"] = field(default_factory=list)
    names: list[tuple[str, int, int]] = field(default_factory=list)
    """Local names, each with the instructions between which it is one."""

    def globals(self, operation: int) -> Iterator[str]:
        """Globals that the function, or one within it, reads or sets."""
        for word in self.code:
            if word & 0x3F == operation:
                yield str(self.constants[word >> 14])
        for one in self.inner:
            yield from one.globals(operation)


class Dump:
    """Reads what ``string.dump`` wrote.

    Source: Lua 5.1.5, ldump.c.
    """

    def __init__(self, data: bytes) -> None:
        assert data[:5] == b"\x1bLua\x51"
        assert data[6:10] == b"\x01\x04\x08\x04", "of a machine with other sizes"
        self._data, self._at = data, 12

    def _take(self, shape: str) -> tuple[int, ...]:
        found = struct.unpack_from(f"<{shape}", self._data, self._at)
        self._at += struct.calcsize(f"<{shape}")
        return found

    def _text(self) -> str:
        (size,) = self._take("Q")
        self._at += size
        return self._data[self._at - size : self._at - 1].decode("latin-1") if size else ""

    def _constant(self) -> str | None:
        (kind,) = self._take("B")
        if kind == 4:
            return self._text()
        self._at += {0: 0, 1: 1, 3: 8}[kind]
        return None

    def function(self) -> Compiled:
        """The next one, with those within it."""
        self._text()
        self._take("ii4B")
        code = self._take(f"{self._take('i')[0]}I")
        constants = [self._constant() for _ in range(self._take("i")[0])]
        inner = [self.function() for _ in range(self._take("i")[0])]
        self._take(f"{self._take('i')[0]}i")  # lines
        names = [(self._text(), *self._take("ii")) for _ in range(self._take("i")[0])]
        for _ in range(self._take("i")[0]):  # upvalues
            self._text()
        return Compiled(code, constants, inner, names)


def compiled(text: str) -> Compiled:
    """A chunk."""
    dump = LuaRuntime(encoding=None).eval("function(text) return string.dump(assert(loadstring(text))) end")
    return Dump(dump(text.encode())).function()


def chunk_names(text: str) -> list[str]:
    """Local names that are there to the end of a chunk, in order."""
    chunk = compiled(f"{text}\nreturn")  # an instruction behind the last block, whose names have ended there
    last = len(chunk.code) - 1  # another return, of the compiler's
    return [name for name, _, end in chunk.names if end == last]


def library_chunk() -> str:
    """The library without its first line, which is Redis's."""
    return library_source().partition("\n")[2]


def declared(name: str) -> list[str]:
    """Names that a file makes names of the chunk."""
    return re.findall(r"^local (?:function )?(\w+)", (FOLDER / f"{name}.lua").read_text(), re.MULTILINE)


def test_the_reader_of_dumps_sees_what_is_there():
    text = "local a, b = {}, 2\ndo local c = a end\nfunction a.f(d) e = d; return b, g end\nlocal function h() end"
    assert chunk_names(text) == ["a", "b", "h"]
    assert set(compiled(text).globals(SET_GLOBAL)) == {"e"}
    assert set(compiled(text).globals(GET_GLOBAL)) == {"g"}


def test_nothing_is_made_global():
    assert not set(compiled(library_chunk()).globals(SET_GLOBAL))


def test_no_name_is_used_that_no_file_above_declares():
    unknown = set(compiled(library_chunk()).globals(GET_GLOBAL)) - GIVEN
    assert not unknown, f"{unknown} stand for nothing: is it of a file further down, or without its table?"


def test_every_file_offers_one_table_that_bears_its_name():
    own = [name for file in OF_THE_CHUNK for name in declared(file)]
    tables = [PurePath(file).name for file in FILES if file not in {*OF_THE_CHUNK, "functions"}]
    assert chunk_names(library_chunk()) == [*own, *tables]


def test_the_chunk_has_room_for_more_names():
    count = len(chunk_names(library_chunk()))
    assert count < MOST_NAMES, "put functions that belong together into a table"

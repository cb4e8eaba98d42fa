"""Where the body of a request ends; its bytes are passed as they are, and only counted.

Rule: of the chunked coding only what every parser reads alike is passed: hexadecimal digits, a printable extension,
CRLF. Trailers are passed as they are.
"""

import re
from enum import Enum, auto

from gpu_worker.door.head import CHUNKED, UnpassableError

LINE_LIMIT_BYTES = 4096
"""Of a chunk's size with its extension, and of one trailer."""
TRAILERS_LIMIT_BYTES = 16 * 1024
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")
_CRLF = b"\r\n"


class Sized:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def done(self) -> bool:
        """Has all of it been seen?"""
        return self._left == 0

    def take(self, data: bytes) -> int:
        """How many of these bytes are its own."""
        taken = min(self._left, len(data))
        self._left -= taken
        return taken


class _At(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    END = auto()


class Chunked:
    """A body in chunks."""

    def __init__(self) -> None:
        self._at, self._left, self._line, self._trailers = _At.SIZE, 0, b"", 0

    @property
    def done(self) -> bool:
        """Has its last chunk been seen?"""
        return self._at is _At.END

    def take(self, data: bytes) -> int:
        """How many of these bytes are its own.

        Raises:
            UnpassableError: They are no chunks.
        """
        at = 0
        while at < len(data) and not self.done:
            at = self._data(data, at) if self._at is _At.DATA else self._words(data, at)
        return at

    def _data(self, data: bytes, at: int) -> int:
        taken = min(self._left, len(data) - at)
        self._left -= taken
        if not self._left:
            self._at = _At.DATA_END
        return at + taken

    def _words(self, data: bytes, at: int) -> int:
        """Take in what is there of a line; act on it once it is whole."""
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._line += data[at:stop]
        if len(self._line) > LINE_LIMIT_BYTES:
            raise UnpassableError(400, "a line of the chunked body is too long")
        if end >= 0:
            line, self._line = self._line, b""
            if not line.endswith(_CRLF):
                raise UnpassableError(400, "the chunked body is malformed")
            self._line_is(line[:-2])
        return stop

    def _line_is(self, line: bytes) -> None:
        match self._at:
            case _At.SIZE if size := _SIZE.fullmatch(line):
                self._left = int(size[1], 16)
                self._at = _At.DATA if self._left else _At.TRAILER
            case _At.DATA_END if not line:
                self._at = _At.SIZE
            case _At.TRAILER if not line:
                self._at = _At.END
            case _At.TRAILER if _TRAILER.fullmatch(line):
                self._trailers += len(line)
                if self._trailers > TRAILERS_LIMIT_BYTES:
                    raise UnpassableError(400, "the trailers are too long")
            case _:
                raise UnpassableError(400, "the chunked body is malformed")


def body_reader(length: int) -> Sized | Chunked:
    """Begin one, by what its head says."""
    return Chunked() if length == CHUNKED else Sized(length)

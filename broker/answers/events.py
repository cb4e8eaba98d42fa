"""Server-sent events out of pieces that are cut anywhere: only the data of each event, in order.

Rule: how the bytes are cut never changes what comes out. Lines end with LF, CRLF or CR; a missing blank line at the
end of the stream is forgiven; an event longer than the limit comes out as ``OVERSIZE``.

Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream".
"""

import re

MAX_EVENT = 1024 * 1024
"""Bytes of one event that are kept; a longer one is known to be there and not read."""

OVERSIZE = b"\x00oversize"
"""Stands for the data of an event above ``MAX_EVENT``; no server sends it, JSON has no NUL."""

_END = re.compile(rb"\r\n(?:\r\n|\r(?!\n)|\n)|\n(?:\r\n|\r(?!\n)|\n)|\r(?:\r\n|\r(?!\n))")
"""Two line ends in a row. A CR at the very end of the buffer may be half a CRLF: see ``feed``."""
_BOM = b"\xef\xbb\xbf"


class EventSplitter:
    """Takes pieces, gives the data of every event that is complete."""

    __slots__ = ("_buffer", "_scanned", "_skipping", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._start = True
        self._skipping = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Take in one piece; return the data of every event that is complete with it."""
        self._buffer += piece
        if self._start:
            if len(self._buffer) < len(_BOM) and _BOM.startswith(self._buffer):
                return []
            if self._buffer.startswith(_BOM):
                del self._buffer[: len(_BOM)]
            self._start = False
        out: list[bytes] = []
        begin = self._plain(out) if b"\r" not in self._buffer else self._mixed(out)
        del self._buffer[:begin]
        self._scanned = len(self._buffer)
        if len(self._buffer) > MAX_EVENT + 8:
            self._skipping = True
            del self._buffer[:-8]
            self._scanned = 8
        return out

    def close(self) -> list[bytes]:
        """Return what is left when the stream ends."""
        out: list[bytes] = []
        rest = bytes(self._buffer).rstrip(b"\r\n")
        if rest or self._skipping:
            self._take(rest, out)
        self._buffer.clear()
        return out

    def _plain(self, out: list[bytes]) -> int:
        """Take the complete events where every line ends with LF; returns where the next one begins."""
        begin, position = 0, max(0, self._scanned - 1)
        while (end := self._buffer.find(b"\n\n", position)) >= 0:
            self._take(bytes(self._buffer[begin:end]), out)
            begin = position = end + 2
        return begin

    def _mixed(self, out: list[bytes]) -> int:
        """Do the same as ``_plain`` for any line ends. A CR at the end may be the first half of CRLF: it waits."""
        limit = len(self._buffer) - self._buffer.endswith(b"\r")
        begin, position = 0, max(0, self._scanned - 4)
        while (end := _END.search(self._buffer, position, limit)) is not None:
            self._take(bytes(self._buffer[begin : end.start()]), out)
            begin = position = end.end()
        return begin

    def _take(self, event: bytes, out: list[bytes]) -> None:
        if self._skipping or len(event) > MAX_EVENT:
            self._skipping = False
            out.append(OVERSIZE)
        elif data := _data_of(event):
            out.append(data)


def last_events(end: bytes, count: int) -> list[bytes]:
    """The data of the last events in the end of a stream; what is left of an event at the front does not count."""
    if b"\r" in end:
        splitter = EventSplitter()
        return (splitter.feed(end) + splitter.close())[-count:]
    parts = end.rstrip(b"\n").rsplit(b"\n\n", count)
    return [data for part in parts[-count:] if (data := _data_of(part.lstrip(b"\n")))]


def _data_of(event: bytes) -> bytes:
    """The event's data lines, joined as the standard says."""
    if event.startswith(b"data:") and b"\n" not in event and b"\r" not in event:
        return event[6:] if event.startswith(b"data: ") else event[5:]
    lines = event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    values = [line[5:] for line in lines if line.startswith(b"data:")]
    return b"\n".join(value.removeprefix(b" ") for value in values)

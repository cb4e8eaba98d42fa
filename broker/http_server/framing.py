"""Where heads and bodies of requests end; what comes between is the parser's business.

Rule: it is only ever said of bytes that are all there, so the answer does not depend on how TCP cuts them.
"""

import re

from broker.access.guard import UPGRADE
from broker.protocol.refusals import Refusal, malformed

MAX_HEAD = 32 * 1024
"""Most bytes of request line and headers."""
MAX_FRAMING = 64 * 1024
"""Bytes of a chunked body in a row that carry nothing of it: trailers and the like."""
_END = b"\r\n\r\n"
_VERSIONS = frozenset({b" HTTP/1.1", b" HTTP/1.0"})
_UPGRADE = re.compile(rb"\r\nupgrade(?=:)", re.IGNORECASE)


class UnsoundError(Exception):
    """Bytes that are no request for us; ``refusal`` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


def head_end(data: bytes) -> int:
    """Where the head that begins here ends, or 0: it is not all there.

    Raises:
        UnsoundError: It is too large, or does not begin as one.
    """
    if not 0x41 <= data[0] <= 0x5A:
        raise UnsoundError(_NO_HTTP)
    end = data.find(_END, 0, MAX_HEAD)
    if end < 0 and len(data) >= MAX_HEAD:
        raise UnsoundError(_HEAD_TOO_LARGE)
    return end + 4 if end >= 0 else 0


def head_for_parser(head: bytes) -> bytes:
    """The head without an offer of another protocol, as Java's client makes with HTTP/2.

    The parser would take what follows for that protocol, and the request's body would be lost. We may ignore the offer
    (RFC 9110, 7.8).

    Raises:
        UnsoundError: It is not of HTTP/1, or asks for a tunnel.
    """
    line_end = head.find(b"\r\n")
    if head[line_end - 9 : line_end] not in _VERSIONS:
        raise UnsoundError(_NO_VERSION)
    if head.startswith(b"CONNECT "):
        raise UnsoundError(_NO_PROXY)
    if b"\r\nupgrade:" in head.lower():
        return _UPGRADE.sub(b"\r\n" + UPGRADE, head)
    return head


def path_in(head: bytes) -> str:
    """The path that a head asks for, as far as it is there."""
    words = head[:1024].split(b" ", 2)
    return words[1].partition(b"?")[0].decode("latin-1") if len(words) > 1 else ""


class BodyFraming:
    """What is to come of one request's body."""

    __slots__ = ("_framing", "_last", "_left")

    def __init__(self, content_length: bytes | None, transfer_encoding: bytes | None) -> None:
        """The parser has found both sound; of a body with a coding that is ``chunked``."""
        self._left = None if transfer_encoding is not None else int(content_length or b"0")
        self._last = b""
        self._framing = 0

    def size_in(self, data: bytes) -> int:
        """How many of these bytes the parser may have: none beyond the body's end.

        A chunked body ends with an empty line and nothing but the parser knows with which, so it is given up to each.
        """
        if self._left is not None:
            return min(self._left, len(data))
        found = (self._last + data[:3]).find(_END)
        if found >= 0:
            size = found + 4 - len(self._last)
        else:
            found = data.find(_END)
            size = found + 4 if found >= 0 else len(data)
        self._last = (self._last + data[max(0, size - 3) : size])[-3:]
        return size

    def passed(self, size: int, carried: int) -> None:
        """The parser had so many bytes, which carried so many of the body, and there is more to come.

        Raises:
            UnsoundError
        """
        self._framing = 0 if carried else self._framing + size
        if self._left is not None:
            self._left -= size
        if self._left == 0 or self._framing > MAX_FRAMING:
            raise UnsoundError(_NO_END)


_NO_HTTP = malformed("it does not begin with a method (TLS is for a proxy in front of the broker: use http:// here)")
_NO_PROXY = malformed("this is no proxy, and takes no CONNECT")
_NO_END = malformed("its body holds too much that is no body")
_NO_VERSION = Refusal(code="http_version", detail="the broker speaks HTTP/1.1 and HTTP/1.0")
_HEAD_TOO_LARGE = Refusal(code="head_too_large", detail=f"request line and headers may have {MAX_HEAD} bytes at most")

"""The head of a request: read strictly, judged by its bearer, passed on as it came but for ``Authorization``.

Rule: what two parsers may understand differently is refused, for whoever smuggled a second request into the first one
would pass without a key. llhttp (httptools) has to take the head, and our own look at its lines has to agree with it.
"""

import hmac
import re
from dataclasses import dataclass, field

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

HEAD_LIMIT_BYTES = 64 * 1024
END = b"\r\n\r\n"
CHUNKED = -1
"""Length of a body that tells its end itself."""
_DIGITS = re.compile(rb"[0-9]{1,18}")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_FIRST = re.compile(rb"[!-~]+ [!-~\x80-\xff]+ HTTP/1\.[01]")


class UnpassableError(Exception):
    """The request does not pass; the connection ends with this answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """All the door has to know of a request."""

    passed: bytes
    """What the server gets of it."""
    method: bytes
    length: int
    """Of the body; ``CHUNKED`` where it tells its end itself."""
    bearer: bytes | None = field(repr=False)
    """The key it shows; None without one, or with several."""


class _Heard:
    """What llhttp makes of a head."""

    def __init__(self) -> None:
        self.headers = 0

    def on_header(self, _name: bytes, _value: bytes) -> None:
        self.headers += 1


def read_head(block: bytes) -> Head:
    """Read all up to and with the empty line.

    Raises:
        UnpassableError: It is no request, an ambiguous one, or one that the door does not pass.
    """
    first, *lines = block[: -len(END)].split(b"\r\n")
    fields = [_LINE.fullmatch(line) for line in lines]
    if not _FIRST.fullmatch(first) or not all(fields):
        raise UnpassableError(400, "this is no HTTP request")
    pairs = [(one[1].lower(), one[2]) for one in fields if one is not None]
    length, method = _length(pairs, first), first.partition(b" ")[0]
    if method == b"CONNECT" or any(name == b"upgrade" for name, _ in pairs):
        raise UnpassableError(501, "this door passes plain HTTP requests only: no upgrade, no CONNECT")
    _ask_llhttp(block, len(lines))
    kept = [line for line, (name, _) in zip(lines, pairs, strict=True) if name != b"authorization"]
    shown = [value for name, value in pairs if name == b"authorization"]
    bearer = _bearer(shown[0]) if len(shown) == 1 else None
    return Head(passed=b"\r\n".join([first, *kept]) + END, method=method, length=length, bearer=bearer)


def _ask_llhttp(block: bytes, lines: int) -> None:
    parser = HttpRequestParser(heard := _Heard())
    try:
        parser.feed_data(block)
    except (HttpParserError, HttpParserUpgrade) as error:
        raise UnpassableError(400, "this is no HTTP request") from error
    if heard.headers != lines:
        raise UnpassableError(400, "this is no HTTP request")


def _length(pairs: list[tuple[bytes, bytes]], first: bytes) -> int:
    lengths = [value for name, value in pairs if name == b"content-length"]
    codings = [value.lower() for name, value in pairs if name == b"transfer-encoding"]
    if codings:
        if lengths or first.endswith(b"HTTP/1.0"):
            raise UnpassableError(400, "the length of the body is ambiguous")
        if codings != [b"chunked"]:
            raise UnpassableError(501, "no transfer encoding but chunked is known")
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise UnpassableError(400, "the length of the body is ambiguous")
    return int(lengths[0])


def _bearer(value: bytes) -> bytes | None:
    scheme, _, token = value.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else None


def admits(key: bytes, head: Head) -> bool:
    """Does it bear the key? Takes as long for a wrong one as for the right one."""
    return bool(key) and head.bearer is not None and hmac.compare_digest(head.bearer, key)

"""What is encoded inside strings: base64, its runs on several lines, hexadecimal and base32, data URLs.

Rule: text is given back decoded; a picture is recognised by its first bytes, whatever it is called; other long binary
data, and all of what is declared to be a file's, cannot be judged and is said to be hidden.
"""

import base64
import binascii
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from broker.routing.text.formats import GLANCE, Contained, judge_bytes, text_of
from broker.routing.text.work import RUN, Work

SHORTEST = 16
"""Length of a run that is looked at, characters; shorter ones are words, names and numbers."""
LONG_BINARY = 2048
"""Length from which a run with nothing else in its string is taken for a picture's, characters."""
BETWEEN = 16
"""How much may be between two lines of one run, characters: quotation marks of mail, numbers of lines."""
LINE = 32
"""How long such a line must be if lines differ in length, characters."""

RULE = b"-----"
_LETTERS = bytes(0x78 if chr(c) in "+/_-" or (c < 0x80 and chr(c).isalnum()) else 0x20 for c in range(256))
_LONG = b"x" * SHORTEST
_DATA_URL = re.compile(r"data:[\w.+-]{0,64}/?[\w.+*-]{0,128}((?:;[\w.+=\"'-]{0,128}){0,8}),", re.IGNORECASE)
_PAYLOAD = re.compile(r"[^\s\"'<>()\[\]{}`|\\]*")
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_HEX = re.compile(rb"(?:[0-9a-f]{2}){8,}|(?:[0-9A-F]{2}){8,}")
_BASE32 = re.compile(rb"[A-Z2-7]{16,}")
_HASHES = frozenset({32, 40, 56, 64, 96, 128})
"""How many hexadecimal digits the usual hashes have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """What one encoded run holds."""

    held: Contained
    text: str = ""
    marked: bool = False
    """It is a picture that says it comes from a camera or a screen."""
    whole: bool = False
    """The run is the whole string: nothing else is in it."""


def runs(raw: bytes) -> Iterator[tuple[int, int]]:
    """Find begin and end of every run of base64's letters, ten times as fast as a pattern."""
    if len(raw) < SHORTEST:
        return
    letters = raw.translate(_LETTERS)
    start = letters.find(_LONG)
    while start >= 0:
        end = letters.find(b" ", start + SHORTEST)
        end = len(raw) if end < 0 else end
        yield start, end
        start = letters.find(_LONG, end)


def blobs(string: str, work: Work) -> Iterator[Blob]:
    """Find what is encoded inside a string; runs on consecutive lines are also read together."""
    if len(string) < SHORTEST:
        return
    raw = string.encode("ascii", "replace")
    files: deque[tuple[int, int]] = deque()
    for begin, end, blob in _data_urls(string, work):
        files.append((begin, end))
        yield Blob(held=blob.held, text=blob.text, marked=blob.marked, whole=begin == 0 and end >= len(raw))
    lines: list[bytes] = []
    last = -1
    for start, end in runs(raw):
        while files and files[0][1] <= start:
            files.popleft()
        if files and files[0][0] <= start:
            continue
        run = raw[start:end]
        if run.startswith(RULE) or run.endswith(RULE):  # the head or foot of what is written as PEM has it
            yield from _together(lines, len(raw), work)
            lines, last = [], -1
            continue
        yield from _judged(run, work, whole=start == 0 and not raw[end:].strip(b"="))
        if last >= 0 and not _is_next_line(raw[last:start]):
            yield from _together(lines, len(raw), work)
            lines = []
        lines.append(run)
        last = end
    yield from _together(lines, len(raw), work)


def _is_next_line(between: bytes) -> bool:
    """Tell whether a run goes on here: nothing but white space, or a line's head, is between."""
    if not between.strip(b"= \t\r\n"):
        return True
    return b"\n" in between and len(between) <= BETWEEN


def _together(lines: list[bytes], size: int, work: Work) -> Iterator[Blob]:
    if len(lines) < 2 or (len(lines[0]) in _HASHES and all(map(_HEX.fullmatch, lines))):
        return
    joined = b"".join(lines)
    wrapped = all(len(line) >= LINE or len(line) == len(lines[0]) for line in lines[:-1])
    for blob in _judged(joined, work, whole=len(joined) > 0.9 * size):
        if wrapped or blob.held is Contained.TEXT:  # else they are long names
            yield blob


def _judged(run: bytes, work: Work, *, whole: bool) -> Iterator[Blob]:
    work.spend(RUN + len(run) // 16)
    for data in _other_readings(run):
        if (text := text_of(data)) is not None:
            yield Blob(held=Contained.TEXT, text=text, whole=whole)
            return
    found = judge_bytes(_decoded(run))
    if found.held is not Contained.NOISE:
        yield Blob(held=found.held, text=found.text, marked=found.marked, whole=whole)


def _other_readings(run: bytes) -> Iterator[bytes]:
    """Read digits that are base64's letters too as what they look like, where that gives a text."""
    if _HEX.fullmatch(run[:GLANCE]) and _HEX.fullmatch(run):
        yield bytes.fromhex(run.decode("ascii"))
    if _BASE32.fullmatch(run[:GLANCE]) and _BASE32.fullmatch(run):
        try:
            yield base64.b32decode(run + b"=" * (-len(run) % 8))
        except binascii.Error:
            return


def _decoded(run: bytes) -> bytes:
    raw = run.translate(_URLSAFE)
    if len(raw) % 4 == 1:
        raw = raw[:-1]
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return b""


def _data_urls(string: str, work: Work) -> Iterator[tuple[int, int, Blob]]:
    """Find files inside addresses, with where their letters begin and end: all of what one holds must be known."""
    if "data:" not in string and "DATA:" not in string:
        return
    at = 0
    while match := _DATA_URL.search(string, at):
        payload = _PAYLOAD.match(string, match.end())
        assert payload is not None  # it matches nothing at the least
        at = payload.end()
        work.spend(RUN + len(payload[0]) // 8)
        data = _file_of(payload[0], encoded="base64" in match[1].lower())
        if data:
            found = judge_bytes(data, noise_below=0)
            yield match.start(), at, Blob(held=found.held, text=found.text, marked=found.marked)


def _file_of(payload: str, *, encoded: bool) -> bytes:
    """Return the bytes; empty: it is cut short, as in an example."""
    raw = unquote_to_bytes(payload)
    if raw.endswith((b"...", b"\xe2\x80\xa6")):
        return b""
    if not encoded:
        return raw if len(raw) >= SHORTEST // 2 else b""
    run = raw.translate(None, b" \t\r\n").rstrip(b"=")
    return _decoded(run) if len(run) >= SHORTEST // 2 else b""

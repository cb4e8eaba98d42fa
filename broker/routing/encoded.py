"""Base64 inside strings: what it holds, as far as a reader can tell.

Rule: text is given back decoded; a picture is recognised by its first bytes, whatever it is called; other long binary
data cannot be judged and is said to be hidden.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

SHORTEST = 16
"""Characters; shorter runs are words, names and numbers."""
LONG_BINARY = 2048
"""Characters; a shorter run that is no text is taken for a hash, a key or a signature, and looked at as it stands."""
GLANCE = 256
"""Characters that tell what a run is."""
HEAD = 65_536
"""Characters of a picture that are searched for what the camera wrote into it."""

_LETTERS = bytes(0x78 if chr(c) in "+/_-" or (c < 0x80 and chr(c).isalnum()) else 0x20 for c in range(256))
_LONG = b"x" * SHORTEST
_DATA_URL = re.compile(r"data:([a-z0-9.+/-]*)(?:;[a-z0-9=._-]+)*?;base64,", re.IGNORECASE)
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*")
_ARCHIVES = (
    b"%PDF",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"7z\xbc\xaf",
    b"\xfd7zXZ",
    b"Rar!",
    b"OggS",
    b"ID3",
    b"fLaC",
    b"\x7fELF",
)
_CAMERA = (b"Exif\x00\x00", b"eXIf", b"screenshot", b"Screenshot", b"<exif:", b"tiff:Make")
_CONTROLS = bytes((*range(9), *range(0x0E, 0x20), 0x7F))
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]")


class Held(Enum):
    """What a run of base64 is."""

    TEXT = auto()
    IMAGE = auto()
    BINARY = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A run of base64, judged."""

    held: Held
    text: str = ""
    marked: bool = False
    """A picture that says it comes from a camera or a screen."""
    whole: bool = False
    """The run is the whole string: nothing else is in it."""


def runs(raw: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of every run of base64's letters, ten times as fast as a pattern."""
    if len(raw) < SHORTEST:
        return
    letters = raw.translate(_LETTERS)
    start = letters.find(_LONG)
    while start >= 0:
        end = letters.find(b" ", start + SHORTEST)
        end = len(raw) if end < 0 else end
        yield start, end
        start = letters.find(_LONG, end)


def blobs(string: str) -> Iterator[Blob]:
    """What base64 is inside a string; runs on consecutive lines are also read together."""
    if len(string) < SHORTEST:
        return
    raw = string.encode("ascii", "replace")
    prefix = _DATA_URL.match(string)
    first = prefix.end() if prefix else 0
    lines: list[bytes] = []
    last = -1
    for start, end in runs(raw):
        if end <= first:
            continue
        run = raw[max(start, first) : end]
        whole = start <= first and not raw[end:].strip(b"=")
        yield from _judged(run, whole=whole)
        if last >= 0 and raw[last:start].strip(b"= \t\r\n"):
            yield from _together(lines, raw)
            lines = []
        lines.append(run)
        last = end
    yield from _together(lines, raw)


def _together(lines: list[bytes], raw: bytes) -> Iterator[Blob]:
    if len(lines) > 1:
        joined = b"".join(lines)
        yield from _judged(joined, whole=len(joined) > 0.9 * len(raw))


def _judged(run: bytes, *, whole: bool) -> Iterator[Blob]:
    blob = _judge(run, whole=whole)
    if blob is not None:
        yield blob


def _judge(run: bytes, *, whole: bool) -> Blob | None:
    head = _decoded(run[:GLANCE])
    if head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:8] == b"ftyp":
        start = _decoded(run[:HEAD])
        return Blob(held=Held.IMAGE, marked=any(word in start for word in _CAMERA), whole=whole)
    if text := _text_of(head, last=len(run) <= GLANCE):
        full = text if len(run) <= GLANCE else _text_of(_decoded(run), last=True)
        return Blob(held=Held.TEXT, text=full or text, whole=whole)
    if len(run) >= LONG_BINARY or head.startswith(_ARCHIVES):
        return Blob(held=Held.BINARY, whole=whole)
    return None


def _decoded(run: bytes) -> bytes:
    raw = run.translate(_URLSAFE)
    if len(raw) % 4 == 1:
        raw = raw[:-1]
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return b""


def _text_of(data: bytes, *, last: bool) -> str:
    """The bytes as text, empty where they are none: UTF-8, or UTF-16 with a mark or with every other byte zero."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        text = data.decode("utf-16", "replace")
    elif len(data) >= 8 and not any(data[1:16:2]):
        text = data.decode("utf-16-le", "replace")
    elif len(data) - len(data.translate(None, _CONTROLS)) > len(data) // 20:
        return ""
    else:
        text = data.decode("utf-8", "replace")
        if not last:
            text = text.rstrip("\ufffd")
    return "" if len(_CONTROL.findall(text)) > len(text) // 20 else text

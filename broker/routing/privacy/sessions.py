"""Sessions that were private once stay private until they end.

Rule: forgetting errs on the private side. A bound holds the memory; beyond it sessions are kept in a crowd that shares
marks, so that a stranger may be taken for private, never the other way round. Ids that differ in case, blanks or signs
that nobody sees are one session: whoever writes them means the same.
"""

import re
import unicodedata
from collections.abc import Iterator

from broker.routing.text.disguise import without_invisible

OWNER_LETTERS = 4
"""How many letters of a mark say whose session it is."""
CROWD_LETTERS = OWNER_LETTERS + 3
"""Beyond the limit sessions of one owner share one mark if so many letters agree: a crowd displaces nobody else's."""
STEP = 512
"""Characters whose forms are undone at once: many marks on one letter cost the square of their number."""
_PLAIN = re.compile(r"[a-z0-9._:/@|-]*")
_PARTS = re.compile(r"[:/_|@. ]+")
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?([1-8])[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}")
_ULID = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_GREGORIAN_S = 12_219_292_800
"""Seconds from 1582-10-15, where the time of the older UUIDs begins, to 1970."""


def one_session(text: str) -> str:
    """An id as all its ways of writing have it."""
    if _PLAIN.fullmatch(text):
        return text
    parts = (unicodedata.normalize("NFKC", text[at : at + STEP]) for at in range(0, len(text), STEP))
    return "".join(without_invisible("".join(parts)).casefold().split())


def made_unix_s(session: str) -> float | None:
    """When an id was made, if it says so (UUID versions 1, 6 and 7, ULID): seconds since 1970; None: it does not.

    Where several parts say so the oldest counts.
    """
    text = one_session(session)
    found = [made for part in _PARTS.split(text) if (made := _made(part)) is not None]
    return min(found, default=None)


def _made(part: str) -> float | None:
    if (uuid := _UUID.fullmatch(part)) is not None:
        digits = part.replace("-", "")
        if uuid[1] == "7":
            return int(digits[:12], 16) / 1000
        if uuid[1] == "6":
            return (int(digits[:12], 16) << 12 | int(digits[13:16], 16)) / 1e7 - _GREGORIAN_S
        if uuid[1] == "1":
            return (int(digits[13:16] + digits[8:12] + digits[:8], 16)) / 1e7 - _GREGORIAN_S
        return None
    if _ULID.fullmatch(part):
        number = 0
        for letter in part[:10]:
            number = number * 32 + _CROCKFORD.index(letter)
        return number / 1000
    return None


class PrivateSessions:
    """Which sessions are private, in one process's memory, each by its hash."""

    def __init__(self, *, limit: int = 10_000, idle_s: float = 86_400.0) -> None:
        """Remember ``limit`` sessions by name for ``idle_s`` seconds since they were last seen."""
        self._limit = limit
        self._idle_s = idle_s
        self._seen_s: dict[str, float] = {}
        self._crowd_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._seen_s) + len(self._crowd_s)

    def is_private(self, session: str, now_s: float) -> bool:
        """Was it private and has not ended? Asking counts as being seen."""
        if self._is_fresh(self._seen_s.get(session), now_s):
            self._touch(session, now_s)
            return True
        self._seen_s.pop(session, None)
        mark = _crowd_of(session)
        if self._is_fresh(self._crowd_s.get(mark), now_s):
            self._crowd_s[mark] = max(now_s, self._crowd_s[mark])
            return True
        self._crowd_s.pop(mark, None)
        return False

    def mark(self, session: str, now_s: float) -> bool:
        """Mark the session as private from now on; return True where it was not before."""
        new = not self.is_private(session, now_s)
        self._touch(session, now_s)
        if len(self._seen_s) > self._limit:
            oldest = next(iter(self._seen_s))
            seen_s = self._seen_s.pop(oldest)
            mark = _crowd_of(oldest)
            self._crowd_s[mark] = max(seen_s, self._crowd_s.get(mark, seen_s))
        return new

    def marks(self, now_s: float) -> Iterator[tuple[str, float]]:
        """What another one must be told: hashes, and marks of the crowd, each with its age in seconds."""
        for session, seen_s in (*self._seen_s.items(), *self._crowd_s.items()):
            if self._is_fresh(seen_s, now_s):
                yield session, max(0.0, now_s - seen_s)

    def _touch(self, session: str, now_s: float) -> None:
        """The dictionary's order is that of the last sight; a clock that went back makes nobody older."""
        seen_s = max(now_s, self._seen_s.pop(session, now_s))
        self._seen_s[session] = seen_s

    def _is_fresh(self, seen_s: float | None, now_s: float) -> bool:
        return seen_s is not None and now_s - seen_s < self._idle_s


def _crowd_of(session: str) -> str:
    return f"crowd:{session[:CROWD_LETTERS]}"

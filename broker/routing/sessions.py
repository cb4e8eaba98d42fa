"""Sessions that were private once stay private until they end.

Rule: forgetting errs on the private side. A bound holds the memory; beyond it sessions are kept in a crowd that shares
marks, so that a stranger may be taken for private, never the other way round.
"""

import hashlib
from collections.abc import Iterable

CROWD = 65_536
"""Marks of the crowd: one entry each, whatever number of sessions shares it."""


class PrivateSessions:
    """Which sessions are private, in one process's memory."""

    def __init__(self, *, limit: int = 10_000, idle_s: float = 86_400.0, crowd: int = CROWD) -> None:
        """Remember ``limit`` sessions by name for ``idle_s`` seconds since they were last seen."""
        self._limit = limit
        self._idle_s = idle_s
        self._crowd_size = crowd
        self._seen_s: dict[str, float] = {}
        self._crowd_s: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._seen_s) + len(self._crowd_s)

    def is_private(self, session: str, now_s: float) -> bool:
        """Was it private and has not ended? Asking counts as being seen."""
        if self._is_fresh(self._seen_s.get(session), now_s):
            self._touch(session, now_s)
            return True
        self._seen_s.pop(session, None)
        mark = self._mark(session)
        if self._is_fresh(self._crowd_s.get(mark), now_s):
            self._crowd_s[mark] = max(now_s, self._crowd_s[mark])
            return True
        self._crowd_s.pop(mark, None)
        return False

    def mark(self, session: str, now_s: float) -> bool:
        """From now on it is private; True where it was not before (to be stored)."""
        new = not self.is_private(session, now_s)
        self._touch(session, now_s)
        if len(self._seen_s) > self._limit:
            oldest = next(iter(self._seen_s))
            seen_s = self._seen_s.pop(oldest)
            mark = self._mark(oldest)
            self._crowd_s[mark] = max(seen_s, self._crowd_s.get(mark, seen_s))
        return new

    def end(self, session: str) -> None:
        """The session ended. One that went into the crowd stays private until its mark is idle."""
        self._seen_s.pop(session, None)

    def learn(self, sessions: Iterable[tuple[str, float]]) -> None:
        """Sessions that another process or an earlier life knew, with when they were last seen."""
        for session, seen_s in sessions:
            self.mark(session, seen_s)

    def _touch(self, session: str, now_s: float) -> None:
        """The dictionary's order is that of the last sight; a clock that went back makes nobody older."""
        seen_s = max(now_s, self._seen_s.pop(session, now_s))
        self._seen_s[session] = seen_s

    def _is_fresh(self, seen_s: float | None, now_s: float) -> bool:
        return seen_s is not None and now_s - seen_s < self._idle_s

    def _mark(self, session: str) -> int:
        digest = hashlib.blake2b(session.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest) % self._crowd_size

"""Keeps the first pieces of an answer back while it may turn out to be of no use, so that another try is unseen.

Rule: the pieces come out as they went in, in order and whole. Nothing is kept once a client could see something in it
(text, reasoning, a tool call), nor beyond the limit, nor of what is not judged. An answer that is no stream is kept to
its end: its content cannot be known earlier, and its server sends it in one go.
"""

from broker.answers.verdict import Verdict
from broker.answers.watcher import Watcher


class HeldHead:
    """Holds the head of an answer back from one client: give it every piece, send what it returns."""

    __slots__ = ("_held", "_limit", "_size", "_watcher", "released")

    def __init__(self, watcher: Watcher, *, limit: int) -> None:
        """Keep at most ``limit`` bytes back."""
        self._watcher = watcher
        self._limit = limit
        self._held: list[bytes] = []
        self._size = 0
        self.released = False
        """Something was given back, so it is too late for another try."""

    def take(self, piece: bytes, now_s: float) -> list[bytes]:
        """Take one more piece; return what is to be sent now."""
        self._watcher.feed(piece, now_s)
        if self.released:
            return [piece]
        self._held.append(piece)
        self._size += len(piece)
        if self._size <= self._limit and self._watcher.undecided:
            return []
        return self.release()

    def release(self) -> list[bytes]:
        """Give back all that is kept: the answer is wanted as it is, or the client waits for too long."""
        held, self._held = self._held, []
        self.released = self.released or bool(held)
        return held

    def end(self, now_s: float) -> Verdict:
        """The answer is complete. A failure may be tried again if nothing was released; else send ``release()``."""
        return self._watcher.end(now_s)

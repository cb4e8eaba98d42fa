"""How long a request may take to arrive: a head its whole time, a body until it stalls."""

import math

from broker.protocol.refusals import Refusal

PATIENCE_S = 60.0
"""After this, seconds, a body has to come at ``SLOWEST`` bytes per second on the whole."""
SLOWEST = 100


class Arrival:
    """When the request is due that a connection is to bring. Times are loop time, seconds."""

    __slots__ = ("_bytes", "_is_body", "_limit_s", "_since_s", "due_s")

    def __init__(self, limit_s: float) -> None:
        """Allow ``limit_s`` seconds for a head, and for a body between two pieces of it."""
        self._limit_s = limit_s
        self._is_body = False
        self._since_s = 0.0
        self._bytes = 0
        self.due_s = math.inf
        """When to look whether it is late; infinity: nothing is to come."""

    def expect_head(self, now_s: float) -> None:
        """Begin to wait for a head: there is a connection, or the first byte of a head."""
        self._is_body, self.due_s = False, now_s + self._limit_s

    def expect_body(self, now_s: float) -> None:
        """Begin to wait for a body: the head is there, or our own side read nothing of the body for a while."""
        self._is_body, self._since_s, self._bytes = True, now_s, 0
        self.due_s = now_s + self._limit_s

    def moved(self, now_s: float, count: int) -> None:
        """Note that so many bytes of the body came."""
        self._bytes += count
        self.due_s = now_s + self._limit_s

    def late(self, now_s: float) -> Refusal | None:
        """Return what a client is told that took too long; None: it did not."""
        limit = f"{self._limit_s:g} s ([broker] request_timeout_s)"
        if now_s >= self.due_s:
            if self._is_body:
                return _too_slow(f"the upload stalled: nothing of the body came for {limit}")
            return _too_slow(f"the head of the request did not arrive within {limit}")
        taken_s = now_s - self._since_s
        if self._is_body and taken_s > PATIENCE_S and self._bytes < SLOWEST * taken_s:
            return _too_slow(f"the upload is too slow: below {SLOWEST} bytes per second for {taken_s:.0f} s")
        return None


def _too_slow(what: str) -> Refusal:
    return Refusal(code="too_slow", detail=what)

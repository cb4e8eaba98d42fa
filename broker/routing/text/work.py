"""How much looking through one request costs: counted, bounded, and cut into slices.

Rule: a request whose look costs more than it may is private, unread. Work is counted in units, not in seconds, so that
the same request costs the same everywhere: a unit is about what one character costs in one pass, some 30 to 40 ns.
"""

import math
from collections.abc import Callable

PIECE = 100
"""Units that one string costs, however short."""
FIELD = 20
"""Units that one element of an array or one field of an object costs."""
RUN = 250
"""Units that one run of letters costs that could be base64."""
ATTEMPT = 40
"""Units that one try of a pattern costs, at a place where its literal stands."""
SLICE = 250_000
"""Units after which others get their turn: about ten milliseconds."""


class TooCostlyError(Exception):
    """The request would cost more work than it may."""


def _go_on() -> None:
    """Go on at once: this is the pause of work that nobody else waits for."""


class Work:
    """Counts the work spent on one request. There is no limit for whoever bounds what is looked at."""

    __slots__ = ("_limit", "_pause", "_pause_at", "spent")

    def __init__(self, limit: float = math.inf, pause: Callable[[], None] = _go_on) -> None:
        """Allow at most ``limit`` units; ``pause`` is called after every slice of them."""
        self._limit = limit
        self._pause = pause
        self._pause_at = SLICE
        self.spent = 0

    def spend(self, units: int) -> None:
        """Count what is about to be done.

        Raises:
            TooCostlyError: It would be too much.
        """
        self.spent += units
        if self.spent > self._limit:
            raise TooCostlyError
        if self.spent >= self._pause_at:
            self._pause_at = self.spent + SLICE
            self._pause()

    def stop(self) -> None:
        """Make the next step too much, because nobody wants to know any more."""
        self._limit = -1

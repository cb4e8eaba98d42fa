"""The processes of `hotseat up`: started in order, started again when one dies, stopped in reverse.

Killing any of them loses nothing, so the right answer to a dead part is to start it again: at once, then more and more
slowly. A part that cannot stay up is reported with the end of its log, and then everything stops.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hotseat.up.child import Child

WATCH_INTERVAL_S = 0.1
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
STEADY_AFTER_S = 20.0
MOST_RESTARTS = 8  # in a row, none of which lasted STEADY_AFTER_S


class PartFailedError(Exception):
    """A part does not stay up; the message holds the end of its log."""


@dataclass(slots=True, kw_only=True)
class Part:
    """One process and how to start it.

    Attributes:
        name: What people call it.
        start: Starts the process; may raise what the part raises when it cannot.
        stop_timeout_s: Between SIGTERM and SIGKILL, seconds.
        final_codes: Exit statuses after which starting again is useless, such as a wrong configuration.
    """

    name: str
    start: Callable[[], Child]
    stop_timeout_s: float
    final_codes: frozenset[int] = frozenset()
    child: Child | None = None
    started_s: float = 0.0
    restarts: int = 0

    def launch(self) -> None:
        """Start the part's process and note when that was."""
        self.child = self.start()
        self.started_s = time.monotonic()

    @property
    def exit_code(self) -> int | None:
        """The exit status, or None while it runs or was not started."""
        return None if self.child is None else self.child.process.poll()


@dataclass(slots=True, kw_only=True)
class Parts:
    """All processes, in the order in which they are started.

    Attributes:
        say: Told what happened, for people.
    """

    say: Callable[[str], None]
    _parts: list[Part] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Start a part and keep it up from now on."""
        self._parts.append(part)
        part.launch()

    async def watch(self) -> None:
        """Start again whatever dies, until cancelled.

        Raises:
            PartFailedError: A part does not stay up.
        """
        await asyncio.gather(*(self._keep_up(part) for part in self._parts))

    async def _keep_up(self, part: Part) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if (code := part.exit_code) is None:
                continue
            if time.monotonic() - part.started_s > STEADY_AFTER_S:
                part.restarts = 0
            if part.restarts >= MOST_RESTARTS or code in part.final_codes:
                raise PartFailedError(f"the {part.name} {ending_of(code)} and cannot be kept up:\n{_log_of(part)}")
            await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**part.restarts))
            part.restarts += 1
            self.say(f"the {part.name} {ending_of(code)}; starting it again")
            part.launch()

    def stop(self) -> None:
        """Stop everything, last started first; safe to repeat."""
        for part in reversed(self._parts):
            if part.child is not None:
                part.child.stop(timeout_s=part.stop_timeout_s)


def ending_of(code: int) -> str:
    """Return how a process ended, in words."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"


def _log_of(part: Part) -> str:
    return part.child.log_tail() if part.child is not None else ""

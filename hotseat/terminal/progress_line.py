"""Says what is being done: one line a step, redrawn in place on a terminal."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from typing import TextIO

WIDTH = 24
CLEAR_LINE = "\r\x1b[K"


def say(line: str) -> None:
    """Tell the person who watches, on standard error; where that is closed nobody listens, and nothing stops for it."""
    if sys.stderr is not None:  # the standard library's types do not know that it can be
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def is_watched() -> bool:
    """Whether a person sees what is said, as it is said."""
    return sys.stderr is not None and sys.stderr.isatty()


@dataclass(slots=True, kw_only=True)
class ProgressLine:
    """The lines a newcomer sees while things start.

    Attributes:
        out: Where they go.
    """

    out: TextIO = field(default_factory=lambda: sys.stdout)
    _shown: str = ""

    def part(self, what: str, fraction: float) -> None:
        """Show how far something is, 0 to 1; in a file only its beginning."""
        if not self.out.isatty():
            if what != self._shown:
                self._write(f"  · {what}\n")
            self._shown = what
            return
        full = round(WIDTH * fraction)
        self._write(f"{CLEAR_LINE}  · {what} {'█' * full}{'░' * (WIDTH - full)} {fraction:4.0%}")

    def done(self, what: str, detail: str) -> None:
        """Say that a step is done."""
        self._write(f"{CLEAR_LINE if self.out.isatty() else ''}  ✓ {what:<7} {detail}\n")

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()

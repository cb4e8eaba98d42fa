"""Bodies of ``/report``, the counts of one day."""

import re
from datetime import date
from typing import Annotated

from pydantic import BeforeValidator

from schemas.http.api import Body, Seconds


def _written_out(day: object) -> object:
    """Pydantic would also take a number for a moment, and ISO 8601's other spellings."""
    if isinstance(day, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", day) is None:
        raise ValueError("a day is written YYYY-MM-DD")
    return day


Day = Annotated[date, BeforeValidator(_written_out)]
"""A day of UTC, written ``YYYY-MM-DD``."""


class Counted(Body):
    """How often something happened, under these labels."""

    labels: dict[str, str]
    count: int


class Timed(Body):
    """How long something took, estimated from the counts of its buckets."""

    labels: dict[str, str]
    count: int
    p50_seconds: Seconds
    p95_seconds: Seconds


class DayReport(Body):
    """One day, all brokers of the pool together; what did not happen is not in it."""

    day: Day
    pool: str
    counts: dict[str, list[Counted]]
    """``requests``, ``outcomes``, ``tokens``, ``loads``, ``swaps`` and others, each by its labels."""
    times: dict[str, list[Timed]]
    """``wait`` for a lease, ``firstByte`` after it, ``load``; the entry without labels is all of them together."""

"""When Python looks for cycles of dead objects: while it is quiet.

A full collection walks every object of the process, and nothing is answered meanwhile: with 9,000 waiters 400 to 500 ms
(Python 3.11, measured). Python starts one whenever enough objects are new, which is when the broker has most to do.
Reference counts free what the lease path makes (such a collection found not one cycle), so full ones are there for the
rest: exceptions, libraries. They are run by the clock here, when few connections are open, and never over what was
there at the start. What is free then goes back to the operating system.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Callable

from broker.process import allocator

log = logging.getLogger("hotseat.collector")

YOUNG = 5_000
"""New objects after which the youngest are looked through; Python's 700 finds nothing more, seven times as often."""
NEVER = 1_000_000
QUIET = 300
"""Open connections up to which a full collection takes 15 ms at most."""
LOOK_S = 60.0
LONGEST_S = 3600.0
"""Where it is never quiet."""


def settle() -> None:
    """Leave what the imports made out of every later collection, and full ones to :func:`forever`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, NEVER)


async def forever(connections: Callable[[], int]) -> None:
    """Run a full collection now and then, until cancelled.

    Args:
        connections: How many are open now.
    """
    last_s = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_S)
        if is_due(time.monotonic() - last_s, connections()):
            began_s = time.monotonic()
            found = gc.collect()
            allocator.trim()
            last_s = time.monotonic()
            log.debug("collected", extra={"found": found, "took_ms": round((last_s - began_s) * 1000, 1)})


def is_due(since_s: float, connections: int) -> bool:
    """Is a full collection right now, so long after the last one?"""
    return connections <= QUIET or since_s >= LONGEST_S

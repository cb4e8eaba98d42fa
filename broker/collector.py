"""When Python looks for cycles of dead objects: seldom, and in no hurry.

A full collection walks every object of the process, and nothing is answered meanwhile: 60 to 75 ms with 9,000 waiters,
680 ms while they connect (Python 3.11, measured). Python starts one whenever enough objects are new, which is when the
broker has most to do. Reference counts free nearly all of ours at once, so full collections are run by the clock here,
at a pace that keeps them to a five-thousandth of the time, and never over what was there at the start.
"""

import asyncio
import gc
import logging
import time

log = logging.getLogger("hotseat.collector")

YOUNG = 5_000
"""New objects after which the youngest are looked through; Python's 700 finds nothing more, seven times as often."""
NEVER = 1_000_000
SHARE = 5_000
SHORTEST_S = 60.0
LONGEST_S = 600.0


def settle() -> None:
    """Leave what the imports made out of every later collection, and full ones to :func:`forever`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, NEVER)


async def forever() -> None:
    """Run a full collection now and then, until cancelled."""
    pause_s = SHORTEST_S
    while True:
        await asyncio.sleep(pause_s)
        began_s = time.perf_counter()
        found = gc.collect()
        took_s = time.perf_counter() - began_s
        pause_s = pause_after(took_s)
        log.debug("collected", extra={"found": found, "took_ms": round(took_s * 1000, 1), "next_s": round(pause_s)})


def pause_after(took_s: float) -> float:
    """Seconds until the next full collection, after one that took ``took_s``."""
    return min(LONGEST_S, max(SHORTEST_S, SHARE * took_s))

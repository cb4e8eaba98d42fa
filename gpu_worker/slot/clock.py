"""The clock of a slot's loop: the event loop's own, by which its time-outs and pauses run as well.

One clock for deadlines that are reckoned and deadlines that are waited for; where time is virtual, it is so for both.
"""

import asyncio


def now_s() -> float:
    """Tell the time of the running loop, seconds; monotonic."""
    return asyncio.get_running_loop().time()

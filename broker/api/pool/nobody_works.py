"""A pool in which no worker ever reported: the brokers and the workers may not mean the same place."""

import time
from collections.abc import Callable, Sequence

from broker.api.services import PoolPicture

PATIENCE_S = 15.0
"""A worker that was started with the broker has reported long before."""


def watch_for_workers(
    where: str, picture: Callable[[], PoolPicture | None], clock: Callable[[], float] = time.monotonic
) -> Callable[[], Sequence[str]]:
    """What there is to say of it, whenever it is asked for.

    Args:
        where: Store and pool of this broker, for people.
        picture: The last look at the pool.
        clock: Seconds.
    """
    started_s = clock()

    def warnings() -> Sequence[str]:
        seen = picture()
        if seen is None or seen.snapshot.slots or clock() - started_s < PATIENCE_S:
            return ()
        advice = "url (with the number of the database) and pool of their [store] must be those of this broker"
        return (f"no worker has ever reported at {where}: start one; {advice}",)

    return warnings

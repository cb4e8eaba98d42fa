"""Hear the ring of one slot: its orders changed, look at them now."""

import asyncio
from collections.abc import Callable

from gpu_worker.slot.settings import FIRST_RETRY_S, SlotSettings
from gpu_worker.store_port import StoreError, StorePort

RING_BLOCK_S = 10.0


async def listen(store: StorePort, settings: SlotSettings, on_ring: Callable[[], None]) -> None:
    """Until cancelled. The ring is a hint: whatever is missed here, the periodic read of the orders finds."""
    last_id, retry_s = "0", FIRST_RETRY_S
    while True:
        try:
            heard = await store.wait_ring(settings.slot, last_id, RING_BLOCK_S)
        except StoreError:
            last_id = "0"  # another store, or the same with fewer memories, may be there next time
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, settings.orders_interval_s)
            continue
        retry_s = FIRST_RETRY_S
        if heard != last_id:
            last_id = heard
            on_ring()

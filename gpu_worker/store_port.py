"""What the worker needs of the store; ``store.WorkerStore`` answers with Redis, the tests with a store in memory."""

from typing import Protocol

from schemas.messages import Orders, Report


class StoreError(Exception):
    """The store is away, refuses, or answered nonsense; try again later."""


class StorePort(Protocol):
    """Reads orders, writes reports and hears the ring; each verb raises ``StoreError`` while the store is away."""

    async def read_orders(self, slot: str) -> Orders:
        """The desired state; raises `StoreError`."""
        ...

    async def write_report(self, slot: str, report: Report) -> None:
        """Replace the report; raises `StoreError`."""
        ...

    async def write_changed_report(self, slot: str, report: Report) -> None:
        """Replace the report and ring; raises `StoreError`."""
        ...

    async def wait_ring(self, slot: str, last_id: str, block_s: float) -> str:
        """Wait for the ring; raises `StoreError`."""
        ...

"""One slot as its supervisor sees it: settings, what it needs of the store, how it ends."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gpu_worker.residency import Care
from schemas.messages import Orders, Report


class StorePort(Protocol):
    """What the loop needs of the store."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSettings:
    """One slot as its supervisor sees it."""

    slot: str
    worker: str
    boot: str
    care: Care
    beat_s: float = 1.0
    orders_interval_s: float = 2.0


class Ending(StrEnum):
    """Why a supervisor's loop is over."""

    STOPPED = "stopped"
    SUPERSEDED = "superseded"

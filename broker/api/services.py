"""What the routes work with; ``app.py`` puts it together."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from broker.api.auth import Authenticator
from broker.api.views import Outlook
from broker.core.decisions import Plan
from broker.core.lease import LeaseRecord
from broker.core.snapshot import Snapshot
from broker.daybook import Daybook
from broker.gateway.gateway import Gateway
from broker.leasing import Leasing
from broker.metrics import Metrics
from broker.routing.catalogue import Table
from broker.store.port import Store
from broker.waiters import EventFeed, Waiters
from schemas.api import Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The scheduler's last look at the pool."""

    snapshot: Snapshot
    plan: Plan
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything below the routes."""

    pool: str
    version: str
    store: Store
    leasing: Leasing
    waiters: Waiters
    feed: EventFeed
    authenticator: Authenticator
    gateway: Gateway
    metrics: Metrics
    table: Table
    """Every name that can be asked for, with its candidates."""
    outlook: Callable[[LeaseRecord], Outlook]
    """When a ticket may be served, from the scheduler's last plan."""
    explain: Callable[[LeaseRecord], Awaitable[Why]]
    picture: Callable[[], Picture | None]
    book: Daybook
    """The UTC day whose counts are being kept."""
    troubles: Callable[[], list[str]]
    warnings: Callable[[], tuple[str, ...]]
    """What is unwise about the store, for people."""
    """Why this process is not ready; empty: it is."""
    uptime_s: Callable[[], float]
    max_streams: int = 64
    """Open ``GET /events`` connections."""
    open_streams: list[object] = field(default_factory=list)

"""What the routes work with; ``app.py`` puts it together."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from broker.access.keys import Authenticator
from broker.accounting.daily_counts import DailyCounts
from broker.accounting.metrics import Metrics
from broker.api.views import Outlook
from broker.core.decisions import Plan
from broker.core.lease import LeaseRecord
from broker.core.snapshot import Snapshot
from broker.gateway.plans.preview import Preview
from broker.gateway.service import Gateway
from broker.leasing.event_feed import EventFeed
from broker.leasing.service import Leasing
from broker.leasing.waiters import Waiters
from broker.routing.catalogue import NameTable
from broker.scheduling.operating import Operating
from broker.store.port import Store
from schemas.http.api import Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPicture:
    """The scheduler's last look at the pool."""

    snapshot: Snapshot
    plan: Plan
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the routes are given: everything below them."""

    pool: str
    version: str
    store: Store
    leasing: Leasing
    waiters: Waiters
    feed: EventFeed
    authenticator: Authenticator
    gateway: Gateway
    preview: Preview
    metrics: Metrics
    table: NameTable
    """Every name that can be asked for, with its candidates."""
    outlook: Callable[[LeaseRecord], Outlook]
    """Tells when a ticket may be served, from the scheduler's last plan."""
    explain: Callable[[LeaseRecord], Awaitable[Explanation]]
    picture: Callable[[], PoolPicture | None]
    operating: Operating
    book: DailyCounts
    """The counts of the UTC day that is going on."""
    faults: Callable[[], list[str]]
    """Tells why this process is not ready; empty: it is."""
    warnings: Callable[[], tuple[str, ...]]
    """Tells people what is unwise about the store."""
    uptime_s: Callable[[], float]
    max_streams: int = 64
    """How many ``GET /events`` connections may be open."""
    open_streams: list[object] = field(default_factory=list)

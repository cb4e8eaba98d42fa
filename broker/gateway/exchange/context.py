"""What all exchanges of one process share."""

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.accounting.requests import Accounts
from broker.gateway.exchange.candidates import RoutedName, ServingPlan
from broker.gateway.exchange.progress import Progress
from broker.gateway.exchange.settings import GatewaySettings, Prospects
from broker.gateway.requests.bodies import BodyRoom
from broker.gateway.requests.conversations import Sightings
from broker.gateway.requests.spans import Spans
from broker.gateway.trust.death_watch import DeathWatch
from broker.gateway.trust.reputations import Reputations
from broker.gateway.trust.signs import SignsOfLife
from broker.http_client.connection_pool import ConnectionPool
from broker.leasing.held_lease import Holds
from broker.leasing.life import BrokerLife
from broker.leasing.service import Leasing
from broker.leasing.waiters import Waiters

PlanRule = Callable[[Progress], ServingPlan]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayContext:
    """Shared by all exchanges."""

    settings: GatewaySettings
    leasing: Leasing
    waiters: Waiters
    connections: ConnectionPool
    prospects: Prospects
    accounts: Accounts
    room: BodyRoom
    holds: Holds
    life: BrokerLife
    reputations: Reputations
    rule: PlanRule
    deaths: DeathWatch
    signs: SignsOfLife
    spans: Spans = field(default_factory=Spans)
    sightings: Sightings = field(default_factory=Sightings)
    names: tuple[RoutedName, ...] = ()
    """What can be asked for beside the models."""

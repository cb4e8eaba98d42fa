"""What the data path is told at its start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from broker.core.lease import LeaseRecord, ModelName, Priority
from broker.gateway.exchange.contract import Strictness
from broker.gateway.requests.patience import PatienceLimits
from broker.gateway.trust.deaths import DeathRules
from broker.gateway.trust.signs import SignSettings
from broker.gateway.trust.suspicion import SuspicionSettings
from broker.protocol.profiles import Profile
from broker.routing.catalogue import NameTable
from broker.routing.request.parameters import Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """``[gateway]`` and what belongs to it. Durations in seconds, sizes in bytes."""

    broker: str = "broker"
    """Name of this process among those on one store; the same after a restart."""
    limits: PatienceLimits = field(default_factory=PatienceLimits)
    max_body: int = 32 * 1024 * 1024
    max_bodies: int = 1024 * 1024 * 1024
    max_open: int = 10_000
    reader_stall_s: float = 120.0
    """A client that takes nothing for this long is given up: it holds a lease."""
    dead_server_s: float = 5.0
    """A model server that broke off is believed dead, or alive after all, within this."""
    head_s: float = 1.0
    """The beginning of an answer in which nothing can be seen yet is kept back for this long at most."""
    suspicion: SuspicionSettings = field(default_factory=SuspicionSettings)
    """When a model that answers badly is doubted, tested, and asked no more."""
    deaths: DeathRules = field(default_factory=lambda: DeathRules(pause_s=SuspicionSettings().pause_s))
    """When what a model's server dies of is refused."""
    signs: SignSettings = field(default_factory=SignSettings)
    """How long a model server may be silent before its worker is asked to prove it."""
    canary_pause_s: float = 5.0
    """Between two test questions of this process, whatever the models."""
    kept_s: float = 30.0
    """A ticket or an unclaimed grant of a client that is away outlives this."""
    answer_kept_s: float = 120.0
    """Of a request with an ``Idempotency-Key``: for whoever asks the same again."""
    max_answers: int = 64 * 1024 * 1024
    strictness: Strictness = field(default_factory=Strictness)
    """Whose answers are held against their schemas without being asked for that."""
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    """By the API key's name."""
    priorities: Mapping[str, Priority] = field(default_factory=dict)
    """The usual class, by the API key's name."""
    only_if_warm: frozenset[str] = frozenset()
    """Names of API keys whose requests cause no load."""
    served_names: Mapping[ModelName, str] = field(default_factory=dict)
    """The catalogue: what each model is called by its own server."""
    parameters: Mapping[ModelName, Parameters] = field(default_factory=dict)
    """What models change about every request that they serve."""
    table: NameTable = field(default_factory=lambda: NameTable(entries={}, has_cloud=False))
    """Every name that can be asked for."""
    kinds: Mapping[ModelName, str] = field(default_factory=dict)
    """The catalogue's word for what each model does: chat, completion, embedding or rerank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What is known about a ticket's future. Seconds; None: unknown."""

    eta_s: float | None = None
    earliest_s: float | None = None
    served: bool = True
    """Does any slot serve the model?"""
    doubtful: bool = False
    """Did its loads fail again and again while it waited?"""
    answer_s: float = 0.0
    """How long a lease of its model is held, so how long a request takes."""


Prospects = Callable[[LeaseRecord], Prospect]

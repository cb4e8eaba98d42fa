"""The broker's part of ``hotseat.toml``: ``[broker]``, ``[limits]``, ``[policy]``, and what has a file of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from broker.access import host_names, origins
from broker.config import routing_config
from broker.config.gateway_config import MIB, GatewaySection
from broker.config.key_config import KeyEntry, check_models, keys_of, names_nobody
from broker.core.lease import ModelName, Priority
from broker.gateway.cloud.upstreams import CloudServer
from broker.gateway.exchange.contract import Strictness
from broker.gateway.exchange.settings import GatewaySettings
from broker.gateway.plans.questions import RoutingSettings
from broker.leasing.service import LeaseBounds
from broker.policy.settings import PolicySettings, Preemption
from broker.routing.budget import BudgetLimits
from broker.routing.catalogue import NameTable
from broker.routing.privacy.firewall import FindSecret, Firewall
from broker.store.port import ModelSettings, PoolSettings
from schemas.config.file import ConfigSource, ModelEntry, Section, StoreSection, models_of, note_room
from schemas.config.routing import RoutingSection


def _words(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


_Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
"""Texts; in the environment in one, with commas."""
_POLICY = PolicySettings()


class BrokerSection(Section):
    """``[broker]``: one HTTP server."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    """Address to listen on. Loopback unless told otherwise: keys travel in the clear without a TLS proxy in front."""
    port: int = Field(default=4687, ge=0, le=65535)
    """TCP port; 0: any free one."""
    anonymous: bool = False
    """Serve callers without an API key, with every right. On a loopback address only; ``hotseat up`` sets it."""
    hosts: _Words = ()
    """Further names that clients know this broker by, ``*.example.org`` for all below one, ``*`` for any. A request for
    another name is refused (421): its page may have been served by whoever owns that name. Not needed for addresses,
    ``localhost``, names without a dot, ``.internal`` and the machine's own name. In the environment a comma between."""
    cors_origins: _Words = ()
    """Origins whose web pages may use this broker, like ``http://localhost:5173``; ``http://localhost:*`` for any port,
    ``https://*.example.org``, ``vscode-webview://*``, ``*`` for any page that has a key. Every other page is refused
    (403). Where callers need no key, such a page may lease and look, and do nothing that is an operator's."""
    drain_s: float = Field(default=10.0, gt=0, le=300)
    """After SIGTERM requests in flight have this long to finish, seconds; waiters are sent away at once."""
    keep_alive_s: int = Field(default=75, ge=1, le=3600)
    """An idle connection is closed after this, seconds; longer than the 60 s of common proxies and clients."""
    request_timeout_s: float = Field(default=10.0, gt=0, le=300)
    """A request's head must arrive within this, seconds, and its body must not stall for longer. How long all of it
    takes is its own affair, above 100 bytes per second: a slow one holds a connection and no more."""
    max_connections: int = Field(default=12_000, ge=1, le=1_000_000)
    """Open connections; the next one is answered 503. Above ``limits.max_waiters``, so that others get through. Fewer
    where the process may open fewer files: the broker raises that limit as far as it is allowed to."""
    backlog: int = Field(default=4096, ge=16, le=65_535)
    """Connections the kernel holds until they are accepted; an overflow shows as stalls of exactly 1 s."""
    log_format: Literal["text", "json"] = "text"
    """``json``: one object per line."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""

    @property
    def is_loopback(self) -> bool:
        """Can only this machine connect?"""
        return host_names.is_loopback(self.host)

    @field_validator("hosts")
    @classmethod
    def _sound_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host_names.sound(host) for host in hosts)

    @field_validator("cors_origins")
    @classmethod
    def _sound_origins(cls, wanted: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origins.sound(origin) for origin in wanted)

    @model_validator(mode="after")
    def _anonymous_stays_here(self) -> Self:
        if not self.anonymous:
            return self
        if not self.is_loopback:
            raise ValueError("anonymous needs a loopback host such as 127.0.0.1; give callers a [[key]] instead")
        for name, values in (("hosts", self.hosts), ("cors_origins", self.cors_origins)):
            if host_names.ANY in values:
                raise ValueError(f'{name} = ["*"] would let every web page in: name them, or give callers a [[key]]')
        return self


class LimitsSection(Section):
    """``[limits]``: bounds on what callers ask for and on what is kept."""

    ttl_default_s: float = Field(default=60.0, ge=1, le=86_400)
    """TTL of a lease whose caller names none, seconds: three missed renewals at a third each."""
    ttl_min_s: float = Field(default=1.0, ge=1, le=86_400)
    """Shortest TTL, seconds: below that a garbage collection loses a lease."""
    ttl_max_s: float = Field(default=3600.0, ge=1, le=86_400)
    """Longest TTL, seconds: how long a vanished holder can block others."""
    wait_max_s: float = Field(default=60.0, ge=1, le=300)
    """Longest an answer is held for a grant, seconds; below the idle time-out of proxies."""
    waiter_ttl_s: float = Field(default=60.0, ge=5, le=3600)
    """A ticket nobody asked about for this long is dropped, seconds."""
    repoll_s: float = Field(default=10.0, ge=1, le=30)
    """An open waiter reads its lease again this often, seconds: heals a lost wake-up and keeps its ticket."""
    claim_ttl_s: float = Field(default=30.0, ge=1, le=3600)
    """A lease granted while nobody listened runs out after this, seconds, unless it is claimed."""
    max_queue: int = Field(default=10_000, ge=1, le=1_000_000)
    """Most tickets and warm leases that are kept; about 600 bytes of store each. When there are as many, an API key
    that has an eighth of them is refused; others get in, up to twice the number: no key shuts the others out."""
    max_queue_session: int = Field(default=64, ge=1, le=10_000)
    """Most waiting tickets of one session: a loop in one agent fills its own share only."""
    max_kept: int = Field(default=2_000, ge=100, le=1_000_000)
    """How much is remembered of each API key, together: leases it gave back or let run out, idempotency keys, sequence
    numbers. The oldest are forgotten first; about 1 KiB of store each."""
    max_waiters: int = Field(default=10_000, ge=1, le=1_000_000)
    """Most connections of one process that wait; about 15 KiB of memory each."""
    max_streams: int = Field(default=64, ge=1, le=10_000)
    """Most connections of one process that follow ``GET /events``; each reads the stream on its own."""
    silence_s: float = Field(default=10.0, ge=1, le=600)
    """A slot whose worker reports nothing for this long is offline, seconds: ten of the worker's beats."""
    broker_silence_s: float = Field(default=3.0, ge=1, le=60)
    """A broker that says nothing for this long while another one looks is dead, seconds: three of its beats. What only
    it could serve, the requests of ``/v1`` in flight there, ends, and so do their leases."""
    load_retry_s: float = Field(default=1.0, gt=0, le=3600)
    """How long the first pause is after a load that failed and may well succeed the next time, seconds; it doubles with
    each, up to ``load_backoff_s``."""
    load_backoff_s: float = Field(default=30.0, gt=0, le=3600)
    """How long the first pause is of a model that is given up on a slot (it cannot be loaded as it is, or failed
    ``max_fails`` times), seconds; it doubles each time, up to sixteen times as long. A change of its entry, program or
    files, a restart of the worker and an operator's ``heal`` end it at once."""
    max_fails: int = Field(default=5, ge=1, le=100)
    """How many failed loads in a row give a model up on a slot for a while; what is the host's doing (no port, no
    memory for a moment) does not count."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.ttl_min_s <= self.ttl_default_s <= self.ttl_max_s:
            raise ValueError("ttl_min_s, ttl_default_s and ttl_max_s must not fall")
        if self.repoll_s > self.waiter_ttl_s / 2:
            raise ValueError("repoll_s must be at most half of waiter_ttl_s, or open waiters lose their place")
        return self


class PolicySection(Section):
    """``[policy]``: whose turn it is. Where the defaults come from says ``docs/scheduling.md``."""

    weights: dict[Priority, float] = Field(default_factory=lambda: dict(_POLICY.weights))
    """What one second of waiting of a class is worth; relative."""
    max_wait_s: dict[Priority, float] = Field(default_factory=lambda: dict(_POLICY.max_wait_s))
    """Per class: a ticket older than this goes before every other consideration, seconds."""
    slice_min_s: float = Field(default=_POLICY.slice_min_s, ge=0, le=86_400)
    """Shortest time slice of a resident model while others wait, seconds."""
    slice_load_factor: float = Field(default=_POLICY.slice_load_factor, ge=0, le=1000)
    """A slice is at least this many loads of the waiting model: bounds the share of time lost to loading."""
    slice_hold_factor: float = Field(default=_POLICY.slice_hold_factor, ge=0, le=1000)
    """A slice is at least this many mean leases of the resident model."""
    slice_max_factor: float = Field(default=_POLICY.slice_max_factor, ge=1, le=1_000_000)
    """A turn ends after this many slices though the resident model's own queue be worth more than the switch."""
    slice_overtime: float = Field(default=_POLICY.slice_overtime, ge=0, le=100)
    """Share of the slice that leases in flight may go on after it."""
    exchange_min_run_s: float = Field(default=_POLICY.exchange_min_run_s, ge=0, le=86_400)
    """A lease is never exchanged before it ran this long, seconds."""
    request_run_s: float = Field(default=_POLICY.request_run_s, ge=0, le=86_400)
    """A lease that is for one request (of ``/v1``, or with ``singleRequest``) is not asked back before it ran this
    long, seconds: that would cut off its answer. 15 minutes are a long answer of a slow model."""
    preempt_grace_s: float = Field(default=_POLICY.preempt_grace_s, ge=0, le=3600)
    """What the holder of a preempted lease has to finish its request, seconds."""
    max_hold_s: float = Field(default=_POLICY.max_hold_s, gt=0, le=864_000)
    """A lease held this long is asked back when others wait, seconds."""
    preemption: Preemption = _POLICY.preemption
    """off, exchange, interactive_first or priority."""
    prefetch_threshold: float = Field(default=_POLICY.prefetch_threshold, ge=1, le=1000)
    """A prefetch must save this many times the waiting that it makes. 1000: none that evicts anything."""
    prefetch_risk_s: float = Field(default=_POLICY.prefetch_risk_s, ge=0, le=3600)
    """Expected seconds of waiting a prefetch must save beyond that; four times as many after one that went unused."""
    horizon_s: float = Field(default=_POLICY.horizon_s, gt=0, le=3600)
    """Arrivals expected within this time make a model worth keeping, seconds."""
    idle_restore_s: float = Field(default=_POLICY.idle_restore_s, gt=0, le=864_000)
    """The default, and what is to be kept, come back when what is in their way was idle for this long, seconds; later
    where a session that used it usually stays away longer, or a warm lease keeps it. At once where there is room."""
    relook_s: float = Field(default=_POLICY.relook_s, gt=0, le=3600)
    """While nobody waits the expectations are looked at this often, seconds."""

    @model_validator(mode="before")
    @classmethod
    def _fill_classes(cls, table: Any) -> Any:
        """A table that names some classes keeps the defaults of the others."""
        if not isinstance(table, dict):
            return table
        defaults: dict[str, Mapping[Priority, float]] = {"weights": _POLICY.weights, "max_wait_s": _POLICY.max_wait_s}
        merged = dict(table)
        for name, values in defaults.items():
            given = merged.get(name)
            if isinstance(given, dict):
                merged[name] = {key.value: value for key, value in values.items()} | given
        return merged

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for name, table in (("weights", self.weights), ("max_wait_s", self.max_wait_s)):
            if bad := [key for key, value in table.items() if not 0 < value < 1e9]:
                raise ValueError(f"{name}.{bad[0]} must be positive")
        return self

    def settings(self) -> PolicySettings:
        """Return the section as the scheduling policy takes it."""
        return PolicySettings(**{name: getattr(self, name) for name in type(self).model_fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """All that the broker reads: the sections of ``hotseat.toml``, and the environment."""

    store: StoreSection
    broker: BrokerSection
    limits: LimitsSection
    policy: PolicySection
    gateway: GatewaySection
    keys: tuple[KeyEntry, ...]
    models: tuple[ModelEntry, ...]
    routing: RoutingSection = field(default_factory=RoutingSection)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment variables; among them are the API keys of upstreams."""

    def routing_table(self) -> NameTable:
        """All names that can be asked for."""
        return routing_config.table(self.routing, self.models, self.environ)

    def firewall(self, find_secret: FindSecret | None) -> Firewall:
        """What makes a request private; without a scanner every content does."""
        return routing_config.firewall(self.routing, find_secret)

    def budgets(self) -> BudgetLimits:
        """What may be spent at upstreams."""
        return routing_config.limits(self.routing, self.keys)

    @property
    def has_routing(self) -> bool:
        """Is there anything to be decided? Else every model is served under its own name."""
        substitutes = any(model.fallbacks for model in self.models)
        return bool(self.routing.alias or self.routing.family or self.routing.upstream or substitutes)

    def routing_settings(self) -> RoutingSettings:
        """What the data path is told of routing."""
        return routing_config.settings(self.routing, self.routing_table(), self.keys, self.policy.settings())

    def upstreams(self) -> tuple[CloudServer, ...]:
        """The upstreams, with their keys."""
        return routing_config.servers(self.routing, self.environ)

    def warnings(self) -> tuple[str, ...]:
        """What an operator should know though it works."""
        leaving = [entry for entry in self.models if entry.default and entry.release_vram_after_s is not None]
        lines = [
            f"model {entry.name!r} is the default but gives its memory back after {entry.release_vram_after_s:g} s "
            "(release_vram_after_s): it is not loaded unless somebody asks for it"
            for entry in leaving
        ]
        outside = [model.name for upstream in self.routing.upstream for model in upstream.model]
        served = [*(model.name for model in self.models), *outside]
        of_keys = [line for key in self.keys for line in names_nobody(key, served)]
        return (*lines, *routing_config.warnings(self.routing, self.keys, self.environ), *of_keys)

    def lease_bounds(self) -> LeaseBounds:
        """What callers may ask for."""
        return LeaseBounds(**{one.name: getattr(self.limits, one.name) for one in fields(LeaseBounds)})

    def pool_settings(self) -> PoolSettings:
        """What the store keeps, so that N brokers act alike."""
        limits = self.limits
        return PoolSettings(
            models=tuple(_model_settings(entry) for entry in self.models),
            max_queue=limits.max_queue,
            max_queue_session=limits.max_queue_session,
            max_kept=limits.max_kept,
            claim_ttl_s=limits.claim_ttl_s,
            silence_s=limits.silence_s,
            broker_silence_s=limits.broker_silence_s,
            load_retry_s=limits.load_retry_s,
            load_backoff_s=limits.load_backoff_s,
            max_fails=limits.max_fails,
            max_wait_s=self.policy.max_wait_s,
            horizon_s=self.policy.horizon_s,
        )

    def gateway_settings(self) -> GatewaySettings:
        """What the data path is told."""
        section = self.gateway
        return GatewaySettings(
            broker=section.broker_name(self.broker.port),
            limits=section.limits(),
            max_body=section.max_body_mib * MIB,
            max_bodies=section.max_bodies_mib * MIB,
            max_open=section.max_open,
            answer_kept_s=section.answer_kept_s,
            max_answers=section.max_answers_mib * MIB,
            reader_stall_s=section.reader_stall_s,
            dead_server_s=section.dead_server_s,
            head_s=section.head_s,
            suspicion=section.suspicion(),
            deaths=section.deaths(),
            strictness=Strictness(
                everybody=section.strict,
                keys={key.name: key.strict for key in self.keys if key.strict is not None},
                models={ModelName(entry.name): entry.strict for entry in self.models if entry.strict is not None},
            ),
            signs=section.signs(),
            canary_pause_s=section.canary_pause_s,
            table=self.routing_table(),
            kinds={ModelName(entry.name): entry.kind for entry in self.models},
            parameters={ModelName(one.name): routing_config.parameters(one.parameters) for one in self.models},
            kept_s=min(self.limits.claim_ttl_s, self.limits.waiter_ttl_s),
            profiles={key.name: key.profile for key in self.keys if key.profile is not None},
            priorities={key.name: key.priority for key in self.keys if key.priority is not None},
            only_if_warm=frozenset(key.name for key in self.keys if key.only_if_warm),
            served_names={ModelName(entry.name): entry.expected_name for entry in self.models},
        )


def _model_settings(entry: ModelEntry) -> ModelSettings:
    return ModelSettings(
        name=ModelName(entry.name),
        memory_mib=entry.memory_mib,
        lease_limit=entry.lease_limit,
        is_default=entry.default,
        keep=entry.keep,
        pinned=entry.pinned,
        eviction_weight=entry.eviction_weight,
        release_vram_after_s=entry.release_vram_after_s,
        load_s_hint=entry.load_s_hint,
        hold_s_hint=entry.expected_hold_s,
    )


def load_config(path: Path | None, environ: Mapping[str, str]) -> BrokerConfig:
    """Read and check everything.

    Raises:
        ConfigError: Something is missing, unknown or out of bounds; the message names all of it.
    """
    source = ConfigSource.read(path, environ)
    config = BrokerConfig(
        store=source.section(StoreSection, "store"),
        broker=source.section(BrokerSection, "broker"),
        limits=source.section(LimitsSection, "limits"),
        policy=source.section(PolicySection, "policy"),
        gateway=source.section(GatewaySection, "gateway"),
        keys=keys_of(source),
        models=models_of(source),
        routing=(routing := source.section(RoutingSection, "routing")),
        environ={name: environ[name] for one in routing.upstream if (name := one.api_key_env or "") in environ},
    )
    if not source.raw.get("model") and source.is_sound("routing") and not routing.upstream:
        source.blame("needs at least one [[model]] in the file that --config or HOTSEAT_CONFIG names", "model")
    if not source.raw.get("key") and source.is_sound("broker") and not config.broker.anonymous:
        source.blame("nobody could call; add a [[key]] (hotseat key new NAME), or set anonymous in [broker]", "key")
    check_models(source)
    routing_config.check(source, routing, config.models, environ)
    note_room(source, config.models, _slots_beside(source.raw))
    source.done()
    return config


def _slots_beside(raw: Mapping[str, Any]) -> dict[str, int]:
    """Declared budgets of a worker's slots in the same file, by name; none where one is measured or misspelt.

    Whether they are sound is for the worker to say; a broker without a worker beside it knows of no slot yet.
    """
    worker = raw.get("worker")
    slots = worker.get("slot") if isinstance(worker, dict) else None
    entries = [slot for slot in slots if isinstance(slot, dict)] if isinstance(slots, list) else []
    budgets = {str(slot.get("id")): slot.get("budget_mib") for slot in entries}
    sound = {name: mib for name, mib in budgets.items() if isinstance(mib, int) and mib > 0}
    return sound if len(sound) == len(entries) else {}

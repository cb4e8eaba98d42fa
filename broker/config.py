"""The broker's part of ``hotseat.toml``: ``[broker]``, ``[limits]``, ``[policy]``, and what has a file of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from broker import routing_config
from broker.api import names, origins
from broker.core.lease import ModelName, Priority
from broker.core.settings import PolicySettings, Preemption
from broker.gateway.clouds import CloudServer
from broker.gateway.contract import Strictness
from broker.gateway.routed import RoutingSettings
from broker.gateway.settings import GatewaySettings
from broker.gateway_config import MIB, GatewaySection
from broker.key_config import KeyEntry, keys_of
from broker.leasing import LeaseBounds
from broker.routing.budget import Limits
from broker.routing.catalogue import Table
from broker.routing.privacy import FindSecret, Firewall
from broker.store.port import ModelSettings, PoolSettings
from schemas.config_file import (
    ConfigError,
    ModelEntry,
    Section,
    StoreSection,
    load_toml,
    models_of,
    section_of,
)
from schemas.config_routing import RoutingSection


def _words(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
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
    hosts: Words = ()
    """Further names that clients know this broker by, ``*.example.org`` for all below one, ``*`` for any. A request for
    another name is refused (421): its page may have been served by whoever owns that name. Not needed for addresses,
    ``localhost``, names without a dot, ``.internal`` and the machine's own name. In the environment a comma between."""
    cors_origins: Words = ()
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
        return names.is_loopback(self.host)

    @field_validator("hosts")
    @classmethod
    def _sound_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.sound(host) for host in hosts)

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
            if names.ANY in values:
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
    """An open waiter reads its lease again this often, seconds: heals a lost wake-up and keeps its place."""
    claim_ttl_s: float = Field(default=30.0, ge=1, le=3600)
    """A lease granted while nobody listened runs out after this, seconds, unless it is claimed."""
    max_queue: int = Field(default=10_000, ge=1, le=1_000_000)
    """Waiting tickets in the pool; about 500 bytes of store memory each."""
    max_queue_session: int = Field(default=64, ge=1, le=10_000)
    """Waiting tickets of one session: a loop in one agent fills its own share only."""
    max_waiters: int = Field(default=10_000, ge=1, le=1_000_000)
    """Connections of one process that wait; about 15 KiB of memory each."""
    max_streams: int = Field(default=64, ge=1, le=10_000)
    """Connections of one process that follow ``GET /events``; each reads the stream on its own."""
    silence_s: float = Field(default=10.0, ge=1, le=600)
    """A slot whose worker reports nothing for this long is offline, seconds: ten of the worker's beats."""
    broker_silence_s: float = Field(default=3.0, ge=1, le=60)
    """A broker that says nothing for this long while another one looks is dead, seconds: three of its beats. What only
    it could serve, the requests of ``/v1`` in flight there, ends; their places are free."""
    load_backoff_s: float = Field(default=60.0, gt=0, le=3600)
    """First pause after a failed load, seconds; doubles with each failure."""
    max_fails: int = Field(default=3, ge=1, le=100)
    """Failed loads in a row after which a model is quarantined on a slot."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.ttl_min_s <= self.ttl_default_s <= self.ttl_max_s:
            raise ValueError("ttl_min_s, ttl_default_s and ttl_max_s must not fall")
        if self.repoll_s > self.waiter_ttl_s / 2:
            raise ValueError("repoll_s must be at most half of waiter_ttl_s, or open waiters lose their place")
        return self


class PolicySection(Section):
    """``[policy]``: whose turn it is. The defaults come from the study in ``docs/benchmarks.md``."""

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
    request_run_s: float = Field(default=_POLICY.request_run_s, ge=0, le=86_400)
    """A lease is never exchanged before it ran this long, seconds."""
    preempt_grace_s: float = Field(default=_POLICY.preempt_grace_s, ge=0, le=3600)
    """What the holder of a preempted lease has to finish its request, seconds."""
    max_hold_s: float = Field(default=_POLICY.max_hold_s, gt=0, le=864_000)
    """A lease held this long is asked back when others wait, seconds."""
    preemption: Preemption = _POLICY.preemption
    """off, exchange, interactive_first or priority."""
    prefetch_threshold: float = Field(default=_POLICY.prefetch_threshold, ge=1, le=1000)
    """A prefetch must be worth this many times what it evicts; below 1.1 models flutter."""
    prefetch_risk_s: float = Field(default=_POLICY.prefetch_risk_s, ge=0, le=3600)
    """Expected seconds of loading a prefetch must save beyond that."""
    horizon_s: float = Field(default=_POLICY.horizon_s, gt=0, le=3600)
    """Arrivals expected within this time make a model worth keeping, seconds."""
    idle_restore_s: float | None = Field(default=_POLICY.idle_restore_s, gt=0, le=864_000)
    """After this long without use the default model comes back whatever is expected, unless a warm lease keeps the one
    that would make room, seconds; None: by prefetch."""
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
        """As the core takes them."""
        return PolicySettings(**{name: getattr(self, name) for name in type(self).model_fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All the broker reads."""

    store: StoreSection
    broker: BrokerSection
    limits: LimitsSection
    policy: PolicySection
    gateway: GatewaySection
    keys: tuple[KeyEntry, ...]
    models: tuple[ModelEntry, ...]
    routing: RoutingSection = field(default_factory=RoutingSection)

    def routing_table(self) -> Table:
        """All names that can be asked for."""
        return routing_config.table(self.routing, self.models)

    def firewall(self, find_secret: FindSecret | None) -> Firewall:
        """What makes a request private; without a scanner every content does."""
        return routing_config.firewall(self.routing, find_secret)

    def budgets(self) -> Limits:
        """What may be spent at upstreams."""
        return routing_config.limits(self.routing, self.keys)

    @property
    def has_routing(self) -> bool:
        """Is there anything to be decided? Else every model is served under its own name."""
        return bool(self.routing.alias or self.routing.family or self.routing.upstream)

    def routing_settings(self) -> RoutingSettings:
        """What the data path is told of routing."""
        return routing_config.settings(self.routing, self.models, self.keys, self.policy.settings())

    def upstreams(self) -> tuple[CloudServer, ...]:
        """The upstreams, with their keys."""
        return routing_config.servers(self.routing)

    def warnings(self) -> tuple[str, ...]:
        """What an operator should know though it works."""
        return tuple(line for upstream in self.routing.upstream for line in upstream.warnings())

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
            claim_ttl_s=limits.claim_ttl_s,
            silence_s=limits.silence_s,
            broker_silence_s=limits.broker_silence_s,
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
            canary_pause_s=section.canary_pause_s,
            kinds={ModelName(entry.name): entry.kind for entry in self.models},
            kept_s=min(self.limits.claim_ttl_s, self.limits.waiter_ttl_s),
            profiles={key.name: key.profile for key in self.keys if key.profile is not None},
            priorities={key.name: key.priority for key in self.keys if key.priority is not None},
            served_names={ModelName(entry.name): entry.expected_name for entry in self.models},
        )


def _model_settings(entry: ModelEntry) -> ModelSettings:
    return ModelSettings(
        name=ModelName(entry.name),
        memory_mib=entry.memory_mib,
        lease_limit=entry.lease_limit,
        is_default=entry.default,
        release_vram_after_s=entry.release_vram_after_s,
        load_s_hint=entry.load_s_hint,
    )


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read and check everything.

    Raises:
        ConfigError: Something is missing, unknown or out of bounds; the message names it.
    """
    raw = load_toml(path, environ)
    config = Config(
        store=section_of(StoreSection, raw, "store"),
        broker=section_of(BrokerSection, raw, "broker"),
        limits=section_of(LimitsSection, raw, "limits"),
        policy=section_of(PolicySection, raw, "policy"),
        gateway=section_of(GatewaySection, raw, "gateway"),
        keys=keys_of(raw),
        models=models_of(raw),
        routing=section_of(RoutingSection, raw, "routing"),
    )
    if not config.models:
        raise ConfigError("model: needs at least one [[model]] in the file that --config or HOTSEAT_CONFIG names")
    if not config.keys and not config.broker.anonymous:
        raise ConfigError("key: nobody could call; add a [[key]] (hotseat key new NAME), or set broker.anonymous")
    routing_config.check(config.routing, config.models)
    return config

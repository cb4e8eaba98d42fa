"""From the configuration's tables to the values that routing takes."""

import re
from collections.abc import Callable, Iterable

from broker.core.lease import Priority
from broker.core.settings import PolicySettings
from broker.gateway.clouds import CloudServer
from broker.gateway.routed import RoutingSettings
from broker.key_config import KeyEntry
from broker.routing.budget import Limit, Limits
from broker.routing.catalogue import (
    MILLION,
    SPOKEN,
    Abilities,
    Alias,
    CatalogueError,
    Cloud,
    Local,
    Prefer,
    Prices,
    Protocol,
    Table,
    Variant,
    table_of,
)
from broker.routing.indicators import Indicators
from broker.routing.privacy import Firewall
from broker.routing.request import Kind
from broker.upstream.pool import Timing
from schemas.config_file import ConfigError, ModelEntry
from schemas.config_routing import RoutingSection, UpstreamEntry, UpstreamModelEntry

MIB = 1024 * 1024
KEPT_S = 30.0
"""A connection to an upstream is kept this long without use: a new one costs three round trips."""
_EMBEDDING = frozenset({Kind.EMBEDDINGS, Kind.OTHER})


def table(routing: RoutingSection, models: tuple[ModelEntry, ...]) -> Table:
    """All names that can be asked for.

    Raises:
        ConfigError: A name is taken, unknown, or leads back to itself.
    """
    by_name = {model.name: model for model in models}
    locals_ = [_local(model.name, (model,)) for model in models]
    for family in routing.family:
        if strangers := [name for name in family.variants if name not in by_name]:
            raise ConfigError(f"routing.family {family.name!r}: variant {strangers[0]!r} is not in the catalogue")
        locals_.append(_local(family.name, tuple(by_name[name] for name in family.variants)))
    clouds = [_cloud(upstream, model) for upstream in routing.upstream for model in upstream.model]
    aliases = [
        Alias(
            name=alias.name,
            candidates=alias.candidates,
            prefer=Prefer(alias.prefer),
            deadline_s=alias.deadline_s,
            private=alias.private,
        )
        for alias in routing.alias
    ]
    families = {family.name for family in routing.family if any(by_name[name].private for name in family.variants)}
    try:
        return table_of(
            [*locals_, *clouds],
            aliases,
            fallbacks={model.name: model.fallbacks for model in models},
            private=frozenset(model.name for model in models if model.private) | families,
        )
    except CatalogueError as error:
        raise ConfigError(f"routing: {error}") from None


def check(routing: RoutingSection, models: tuple[ModelEntry, ...]) -> None:
    """Refuse at the start what would fail at the first request.

    Raises:
        ConfigError: As ``table``, or a key that cannot be read.
    """
    table(routing, models)
    for upstream in routing.upstream:
        upstream.read_key()


def _local(name: str, models: tuple[ModelEntry, ...]) -> Local:
    """What all variants can do; the first says the rest."""
    first = models[0]
    contexts = [model.context_tokens for model in models if model.context_tokens is not None]
    offered = [model.offered_tokens for model in models if model.offered_tokens is not None]
    return Local(
        name=name,
        variants=tuple(Variant(name=model.name, memory_mib=model.memory_mib) for model in models),
        abilities=Abilities(
            kinds=_EMBEDDING if first.kind == "embedding" else None,
            context_tokens=min(contexts, default=None),
            max_tools=first.max_tools,
            structured=first.structured,
            vision=first.vision,
        ),
        offered_tokens=min(offered, default=None),
    )


def _cloud(upstream: UpstreamEntry, model: UpstreamModelEntry) -> Cloud:
    protocol = Protocol(upstream.protocol)
    embeds = frozenset({Kind.EMBEDDINGS})
    cached = None if model.cached_price is None else micro(model.cached_price)
    remote_name = model.remote_name or model.name
    called = {other.remote_name or other.name for other in upstream.model}
    return Cloud(
        name=model.name,
        upstream=upstream.name,
        remote_name=remote_name,
        answers_as=model.answers_as,
        others=tuple(called - {remote_name}),
        protocol=protocol,
        abilities=Abilities(
            kinds=embeds if model.kind == "embedding" else SPOKEN[protocol] - embeds,
            context_tokens=model.context_tokens,
            max_tools=model.max_tools,
            structured=model.structured,
            vision=model.vision,
        ),
        reply_tokens=model.max_reply_tokens,
        prices=Prices(prompt=micro(model.prompt_price or 0.0), cached=cached, reply=micro(model.reply_price or 0.0)),
        first_byte_s=upstream.expected_first_byte_s,
        classes=tuple(Priority(word) for word in upstream.classes),
        inside=upstream.inside,
    )


def firewall(routing: RoutingSection, find_secret: Callable[[str], bool] | None) -> Firewall:
    """What makes a request private."""
    return Firewall(
        find_secret=find_secret,
        patterns=tuple(re.compile(pattern) for pattern in routing.private_patterns),
        look_through_bytes=int(routing.look_through_mib * MIB),
        indicators=Indicators(routing.indicators),
    )


def settings(
    routing: RoutingSection, models: tuple[ModelEntry, ...], keys: Iterable[KeyEntry], policy: PolicySettings
) -> RoutingSettings:
    """What the data path is told of it."""
    listed = tuple(keys)
    return RoutingSettings(
        table=table(routing, models),
        private_keys=frozenset(key.name for key in listed if key.private),
        deadlines_s={key.name: key.deadline_s for key in listed if key.deadline_s is not None},
        private_idle_s=routing.private_idle_s,
        private_sessions=routing.private_sessions,
        policy=policy,
    )


def servers(routing: RoutingSection) -> tuple[CloudServer, ...]:
    """The upstreams, with their keys.

    Raises:
        ConfigError: A key cannot be read.
    """
    return tuple(
        CloudServer(
            name=one.name,
            base_url=one.base_url,
            api_key=one.read_key(),
            protocol=Protocol(one.protocol),
            tries=one.tries,
            betas=frozenset(word.encode() for word in one.betas),
            timing=Timing(
                connect_s=one.connect_timeout_s,
                first_byte_s=one.first_byte_timeout_s,
                stall_s=one.idle_timeout_s,
                idle_s=KEPT_S,
            ),
        )
        for one in routing.upstream
    )


def limits(routing: RoutingSection, keys: Iterable[KeyEntry]) -> Limits:
    """Budgets: of all together and of each key, in the currency of the prices."""
    return Limits(
        total=_limit(routing.day_budget, routing.month_budget),
        keys={key.name: _limit(key.day_budget, key.month_budget) for key in keys},
    )


def _limit(day: float | None, month: float | None) -> Limit:
    return Limit(
        day_micro=None if day is None else micro(day),
        month_micro=None if month is None else micro(month),
    )


def micro(amount: float) -> int:
    """Whole micro-units of an amount."""
    return round(amount * MILLION)

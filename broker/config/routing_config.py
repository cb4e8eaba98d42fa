"""From the configuration's tables to the values that routing takes."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from broker.config.key_config import KeyEntry
from broker.core.lease import Priority
from broker.gateway.cloud.upstreams import CloudServer
from broker.gateway.plans.questions import RoutingSettings
from broker.http_client.connection_pool import Timing
from broker.policy.settings import PolicySettings
from broker.routing.budget import BudgetLimits, Limit
from broker.routing.catalogue import (
    MILLION,
    SPOKEN,
    Abilities,
    Alias,
    CatalogueError,
    Cloud,
    Habits,
    Local,
    NameTable,
    Prefer,
    Prices,
    Protocol,
    Rule,
    Variant,
    table_of,
)
from broker.routing.privacy.firewall import Firewall
from broker.routing.privacy.indicators import Indicators
from broker.routing.quantisation import quantisation_in
from broker.routing.request.effort import Effort
from broker.routing.request.nature import When
from broker.routing.request.parameters import NOTHING, Parameters
from broker.routing.request.purpose import Task
from broker.routing.request.request import RequestKind
from schemas.config.file import ConfigError, ConfigSource, ModelEntry
from schemas.config.parameters import ParametersEntry
from schemas.config.problems import near
from schemas.config.routing import AliasEntry, RoutingSection, RuleEntry, UpstreamEntry, UpstreamModelEntry

MIB = 1024 * 1024
NO_VARIABLES: Mapping[str, str] = {}
KEPT_S = 30.0
"""A connection to an upstream is kept this long without use: a new one costs three round trips."""
_KINDS = {
    "embedding": frozenset({RequestKind.EMBEDDINGS, RequestKind.RERANK, RequestKind.OTHER}),
    "rerank": frozenset({RequestKind.RERANK}),
}
"""What models of a kind can be asked for. Of those that generate it is not known, so it is not held against them."""
_NO_VECTORS = frozenset({RequestKind.EMBEDDINGS})


def table(
    routing: RoutingSection, models: tuple[ModelEntry, ...], environ: Mapping[str, str] = NO_VARIABLES
) -> NameTable:
    """Return the table of all names that can be asked for; ``environ`` holds the API keys of upstreams.

    Raises:
        ConfigError: A name is taken, unknown, or leads back to itself.
    """
    by_name = {model.name: model for model in models}
    locals_ = [_local(model.name, (model,)) for model in models]
    locals_ += [_local(family.name, tuple(by_name[name] for name in family.variants)) for family in routing.family]
    clouds = [_cloud(upstream, model, environ) for upstream in routing.upstream for model in upstream.model]
    families = {family.name for family in routing.family if any(by_name[name].private for name in family.variants)}
    try:
        return table_of(
            [*locals_, *clouds],
            [_alias(alias) for alias in routing.alias],
            fallbacks={model.name: model.fallbacks for model in models},
            private=frozenset(model.name for model in models if model.private) | families,
            habits=_habits(routing, models),
        )
    except CatalogueError as error:
        raise ConfigError(str(error)) from None


def _alias(alias: AliasEntry) -> Alias:
    return Alias(
        name=alias.name,
        candidates=alias.candidates,
        prefer=Prefer(alias.prefer),
        deadline_s=alias.deadline_s,
        busy_wait_s=alias.busy_wait_s,
        private=alias.private,
        task=None if alias.task is None else Task(alias.task),
        rules=tuple(map(_rule, alias.rule)),
        parameters=parameters(alias.parameters),
    )


def _rule(rule: RuleEntry) -> Rule:
    return Rule(
        when=When(
            tasks=frozenset(map(Task, rule.task)),
            efforts=frozenset(map(Effort, rule.effort)),
            min_tool_calls=rule.min_tool_calls,
            min_schema_depth=rule.min_schema_depth,
        ),
        candidates=rule.candidates,
        prefer=None if rule.prefer is None else Prefer(rule.prefer),
        deadline_s=rule.deadline_s,
    )


def _habits(routing: RoutingSection, models: tuple[ModelEntry, ...]) -> Habits:
    default = routing.default or next((model.name for model in models if model.default), None)
    return Habits(
        default=default,
        to_default=routing.unknown_names,
        busy_percent=routing.busy_percent,
        busy_wait_s=routing.busy_wait_s,
    )


def check(
    source: ConfigSource, routing: RoutingSection, models: tuple[ModelEntry, ...], environ: Mapping[str, str]
) -> None:
    """Note what would fail at the first request: names that are taken or lead nowhere, keys that cannot be read."""
    section = source.raw.get("routing")
    if isinstance(section, dict):
        _check_names(source, section)
    for index, upstream in enumerate(routing.upstream):
        try:
            upstream.read_key(environ)
        except ConfigError as error:
            source.blame(error.problems[0].what, "routing", "upstream", index, error.problems[0].key)
    if source.is_sound("routing", "model"):
        try:
            table(routing, models, environ)
        except ConfigError as error:
            source.blame(error.problems[0].what, "routing")


def _check_names(source: ConfigSource, section: Mapping[str, object]) -> None:
    """Every name that occurs in ``[routing]``, with what was meant; loops are the catalogue's to find."""
    models = source.names("model")
    families, aliases = source.names("routing", "family"), source.names("routing", "alias")
    known = [*models, *families, *source.names("routing", "upstream", "model"), *aliases]
    _check_table(source, section.get("family"), ("family", "variants"), models, "is no model of the catalogue")
    missing = "is no model, family, upstream model or alias"
    _check_table(source, section.get("alias"), ("alias", "candidates"), known, missing)
    _check_taken(source, section, models)


def _check_taken(source: ConfigSource, section: Mapping[str, object], models: Iterable[str]) -> None:
    """Note names that are taken: all share one space, and the first who has a name keeps it."""
    owners = dict.fromkeys(models, "a [[model]]")
    for array, owner in (("family", "a family"), ("upstream", "a model of an upstream"), ("alias", "an alias")):
        for path, name in _named(section.get(array), array):
            if taken := owners.get(name):
                source.blame(f"the name is taken by {taken}", "routing", *path, "name")
            owners.setdefault(name, owner)


def _named(entries: object, array: str) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield where names of this kind stand, and the names; of an upstream those of its models."""
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if not isinstance(entry, dict):
            continue
        if array == "upstream":
            yield from (((array, index, *path), name) for path, name in _named(entry.get("model"), "model"))
        elif isinstance(name := entry.get("name"), str):
            yield (array, index), name


def _check_table(
    source: ConfigSource, entries: object, keys: tuple[str, str], known: Sequence[str], missing: str
) -> None:
    array, field = keys
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        names = entry.get(field) if isinstance(entry, dict) else None
        for name in names if isinstance(names, list) else []:
            if isinstance(name, str) and name not in known:
                source.blame(f"{name!r} {missing}; {near(name, known)}", "routing", array, index, field)


def _local(name: str, models: tuple[ModelEntry, ...]) -> Local:
    """Make the local candidate: it can do what all variants can, and the first variant says the rest."""
    first = models[0]
    contexts = [model.context_tokens for model in models if model.context_tokens is not None]
    offered = [model.offered_tokens for model in models if model.offered_tokens is not None]
    return Local(
        name=name,
        variants=tuple(map(_variant, models)),
        abilities=Abilities(
            kinds=_KINDS.get(first.kind),
            refuses=frozenset() if first.kind in _KINDS or first.gives_vectors else _NO_VECTORS,
            context_tokens=min(contexts, default=None),
            max_tools=first.max_tools,
            structured=first.structured,
            vision=False if first.vision is None and first.is_blind else first.vision,
        ),
        offered_tokens=min(offered, default=None),
        parameters=parameters(first.parameters) if len(models) == 1 else NOTHING,
    )


def _variant(model: ModelEntry) -> Variant:
    found = model.quantisation or quantisation_in(model.name, model.model_path.name if model.model_path else "")
    return Variant(name=model.name, memory_mib=model.memory_mib, quantisation=found)


def _cloud(upstream: UpstreamEntry, model: UpstreamModelEntry, environ: Mapping[str, str]) -> Cloud:
    protocol = Protocol(upstream.protocol)
    embeds = frozenset({RequestKind.EMBEDDINGS})
    is_closed = upstream.api_key_env is not None and not environ.get(upstream.api_key_env)
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
        prices=_prices(upstream, model),
        first_byte_s=upstream.expected_first_byte_s,
        classes=() if is_closed else tuple(Priority(word) for word in upstream.classes),
        inside=upstream.inside,
        parameters=parameters(model.parameters),
    )


def _prices(upstream: UpstreamEntry, model: UpstreamModelEntry) -> Prices | None:
    """Return the prices. What is not said costs nothing at a server of one's own; of another it is not known."""
    if not upstream.inside and (model.prompt_price is None or model.reply_price is None):
        return None
    cached = None if model.cached_price is None else micro(model.cached_price)
    return Prices(prompt=micro(model.prompt_price or 0.0), cached=cached, reply=micro(model.reply_price or 0.0))


def parameters(entry: ParametersEntry) -> Parameters:
    """Return the entry as routing takes it, with values encoded as JSON."""
    default, fixed = entry.encoded()
    return Parameters(strip=frozenset(entry.strip), default=default, set=fixed)


def firewall(routing: RoutingSection, find_secret: Callable[[str], bool] | None) -> Firewall:
    """What makes a request private."""
    return Firewall(
        find_secret=find_secret,
        patterns=tuple(re.compile(pattern) for pattern in routing.private_patterns),
        look_through_bytes=int(routing.look_through_mib * MIB),
        indicators=Indicators(routing.indicators),
    )


def settings(
    routing: RoutingSection, names: NameTable, keys: Iterable[KeyEntry], policy: PolicySettings
) -> RoutingSettings:
    """Return what the data path is told of routing."""
    listed = tuple(keys)
    return RoutingSettings(
        table=names,
        private_keys=frozenset(key.name for key in listed if key.private),
        deadlines_s={key.name: key.deadline_s for key in listed if key.deadline_s is not None},
        tasks={key.name: Task(key.task) for key in listed if key.task is not None},
        private_idle_s=routing.private_idle_s,
        private_sessions=routing.private_sessions,
        policy=policy,
    )


def servers(routing: RoutingSection, environ: Mapping[str, str]) -> tuple[CloudServer, ...]:
    """The upstreams, with their keys; without those whose variable is not set.

    Raises:
        ConfigError: A key cannot be read.
    """
    return tuple(
        CloudServer(
            name=one.name,
            base_url=one.base_url,
            api_key=key,
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
        if (key := one.read_key(environ)) is not None
    )


def warnings(routing: RoutingSection, keys: Iterable[KeyEntry], environ: Mapping[str, str]) -> list[str]:
    """Tell an operator what works, but is probably not meant."""
    found = [line for upstream in routing.upstream for line in upstream.warnings(environ)]
    budgets = limits(routing, keys)
    if budgets.total != Limit() or any(limit != Limit() for limit in budgets.keys.values()):
        models = (model for upstream in routing.upstream if not upstream.inside for model in upstream.model)
        unpriced = [model.name for model in models if model.prompt_price is None]
        found += [
            f"routing.upstream.model {name!r}: no prices, so nothing goes there under a budget" for name in unpriced
        ]
    return found


def limits(routing: RoutingSection, keys: Iterable[KeyEntry]) -> BudgetLimits:
    """Budgets: of all together and of each key, in the currency of the prices."""
    return BudgetLimits(
        total=_limit(routing.day_budget, routing.month_budget),
        keys={key.name: _limit(key.day_budget, key.month_budget) for key in keys},
    )


def _limit(day: float | None, month: float | None) -> Limit:
    return Limit(
        day_micro=None if day is None else micro(day),
        month_micro=None if month is None else micro(month),
    )


def micro(amount: float) -> int:
    """Return an amount in whole micro-units."""
    return round(amount * MILLION)

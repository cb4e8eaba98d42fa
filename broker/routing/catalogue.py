"""What can be asked for: models, families of variants, models of upstreams, aliases; each as its ordered candidates.

Rule: one space of names. An alias may name aliases; the result is a flat list without repetition, in the order written.
An alias may have rules, too: of what they say the first that holds for a request takes the place of the alias's own
candidates, wherever the alias is named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from broker.core.lease import PRIORITIES, Priority
from broker.routing.request.nature import Nature, When
from broker.routing.request.parameters import NOTHING, Parameters
from broker.routing.request.purpose import Task
from broker.routing.request.request import RequestKind
from broker.routing.text.wildcards import Wildcards, is_wildcard

MILLION = 1_000_000


class CatalogueError(ValueError):
    """The tables contradict each other; the message says where."""


class Prefer(StrEnum):
    """Which of several candidates that meet the deadline is taken."""

    CHEAPEST = "cheapest"
    """The cheapest; among equals a local one, then the order written."""
    LISTED = "listed"
    """The first in the order written."""
    FASTEST = "fastest"
    """The one whose answer is expected to be whole first, by what was learned."""


class Protocol(StrEnum):
    """Which API an upstream speaks; nothing is translated."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


SPOKEN = {
    Protocol.OPENAI: frozenset(
        {RequestKind.CHAT, RequestKind.COMPLETION, RequestKind.RESPONSES, RequestKind.EMBEDDINGS}
    ),
    Protocol.ANTHROPIC: frozenset({RequestKind.MESSAGES}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a model can do; None: not known, so not a reason to pass it over."""

    kinds: frozenset[RequestKind] | None = None
    refuses: frozenset[RequestKind] = frozenset()
    """Kinds of requests that are known not to be answered, where the rest is not known."""
    context_tokens: int | None = None
    """How much prompt and reply may have together, tokens."""
    max_tools: int | None = None
    structured: bool | None = None
    vision: bool | None = None

    @property
    def needs_content(self) -> bool:
        """Tell whether a request must be read to be compared with this. Pictures are known without."""
        return (self.context_tokens, self.max_tools, self.structured) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Micro-units of the currency per million tokens, whole numbers."""

    prompt: int = 0
    cached: int | None = None
    """Price of prompt tokens that the upstream had in its cache; None: the same as ``prompt``."""
    reply: int = 0

    def cost_micro(self, *, prompt_tokens: int, reply_tokens: int, cached_tokens: int = 0) -> int:
        """Return what a call costs, micro-units, rounded up."""
        cached = min(cached_tokens, prompt_tokens)
        cached_price = self.prompt if self.cached is None else self.cached
        total = (prompt_tokens - cached) * self.prompt + cached * cached_price + reply_tokens * self.reply
        return -(-total // MILLION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A model of the pool: one quantisation of a family."""

    name: str
    memory_mib: int
    quantisation: str = ""
    """Quantisation of its weights, as ``q4_k_m``; empty: it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """A candidate of the pool."""

    name: str
    """Name of the family, or of the model if it has no variants."""
    variants: tuple[Variant, ...]
    """The variants, best first; a plain model is its only one."""
    abilities: Abilities = field(default_factory=Abilities)
    offered_tokens: int | None = None
    """How long a context clients are told of, tokens, where routing does not check it."""
    reply_tokens: int = 1024
    """Room kept for the reply where a request does not say how long it may be, tokens."""
    parameters: Parameters = NOTHING
    """What is changed about a request that goes there, by the model and by the names that lead to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A candidate at an upstream."""

    name: str
    upstream: str
    remote_name: str
    protocol: Protocol = Protocol.OPENAI
    abilities: Abilities = field(default_factory=Abilities)
    reply_tokens: int = 4096
    prices: Prices | None = field(default_factory=Prices)
    """What its tokens cost; None: that is not known."""
    answers_as: tuple[str, ...] = ()
    """Names by which it may answer, beside ``remote_name``; empty: any but ``others``."""
    others: tuple[str, ...] = ()
    """Names by which the upstream calls the other models that it offers us."""
    first_byte_s: float = 2.0
    """Expected wait for its first byte, seconds."""
    classes: tuple[Priority, ...] = PRIORITIES
    """Classes whose requests may go there."""
    inside: bool = False
    """It is a server of the operator's own, so private requests may go there too."""
    parameters: Parameters = NOTHING
    """What is changed about a request that goes there, by the model and by the names that lead to it."""


CandidateModel = Local | Cloud


def leads_out(candidate: CandidateModel) -> bool:
    """Tell whether a request with this candidate leaves the operator's own servers."""
    return isinstance(candidate, Cloud) and not candidate.inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Other candidates for requests of a kind; rules are tried in the order written."""

    when: When
    candidates: tuple[str, ...]
    prefer: Prefer | None = None
    """Which candidate it takes; None: the one that the alias says."""
    deadline_s: float | None = None
    """When the first byte is wanted, seconds; None: when the alias says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name for several candidates."""

    name: str
    """The name; with ``*`` and ``?`` it stands for any name of this form that nothing else has."""
    candidates: tuple[str, ...]
    prefer: Prefer = Prefer.CHEAPEST
    deadline_s: float | None = None
    """When the first byte of requests is wanted that say nothing themselves, seconds."""
    busy_wait_s: float | None = None
    """How long a wait for a lease may be while an upstream may serve, seconds; None: as ``Habits`` say."""
    private: bool = False
    """Requests by this name are private."""
    parameters: Parameters = NOTHING
    """What this name changes about a request."""
    task: Task | None = None
    """What its requests are for, unless they or their keys say it."""
    rules: tuple[Rule, ...] = ()

    @property
    def leads_to(self) -> tuple[str, ...]:
        """All names that it leads to, its own candidates and those of its rules."""
        return (*self.candidates, *(name for rule in self.rules for name in rule.candidates))


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One candidate, and the rules of which aliases must hold for it to be one."""

    candidate: CandidateModel
    under: tuple[tuple[str, int], ...] = ()
    """For each alias with rules on the way, the number of the rule, from 1; 0: none of its rules holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A name that can be asked for, resolved."""

    candidates: tuple[CandidateModel, ...]
    """All candidates that may serve it, by whatever rule."""
    prefer: Prefer = Prefer.CHEAPEST
    deadline_s: float | None = None
    busy_wait_s: float | None = None
    private: bool = False
    task: Task | None = None
    branches: tuple[Branch, ...] = ()
    """Every candidate with its rules; empty: no name on the way has rules."""
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """Rules of the aliases that lead to the candidates, by the aliases' names."""
    own: tuple[Rule, ...] = ()
    """Rules of the name itself."""
    rule: int = 0
    """Number of its own rule that was taken, from 1; 0: none."""

    @property
    def asks_for_speed(self) -> bool:
        """Tell whether it may matter how fast its candidates are."""
        return Prefer.FASTEST in (self.prefer, *(rule.prefer for rule in self.own))

    @property
    def usual(self) -> tuple[CandidateModel, ...]:
        """Return the candidates that serve where no rule holds."""
        usual = _distinct(one.candidate for one in self.branches if not any(number for _, number in one.under))
        return usual if self.branches else self.candidates

    def meant(self, nature: Nature) -> "Entry":
        """Return the entry for one request: without rules, and with the candidates that the rules say."""
        if not self.branches:
            return self
        taken = {name: _first(rules, nature) for name, rules in self.rules.items()}
        here = (one.candidate for one in self.branches if all(taken[name] == number for name, number in one.under))
        number = _first(self.own, nature)
        rule = self.own[number - 1] if number else None
        return replace(
            self,
            candidates=_distinct(here),
            branches=(),
            rule=number,
            prefer=rule.prefer or self.prefer if rule else self.prefer,
            deadline_s=rule.deadline_s or self.deadline_s if rule else self.deadline_s,
        )


def _first(rules: tuple[Rule, ...], nature: Nature) -> int:
    return next((number for number, rule in enumerate(rules, 1) if rule.when.holds(nature)), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTable:
    """All names that can be asked for, resolved; made once when the broker starts."""

    entries: Mapping[str, Entry]
    """The names that can be listed."""
    has_cloud: bool
    """Some request can leave. While none can, no content is looked at for privacy's sake."""
    wild: Wildcards[Entry] = field(default_factory=Wildcards)
    """Forms of names, with ``*`` and ``?``, for names that nothing else has."""
    default: str | None = None
    """Name that serves a request without a model; None: nothing does."""
    busy_percent: int = 0
    """A device is busy when other processes use more of its time than this, percent; 0: none ever is."""

    def find(self, name: str) -> Entry | None:
        """Return what a name itself means, else the most specific form that it has; None: nothing."""
        found = self.entries.get(name)
        return self.wild.find(name) if found is None else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What holds for all names that say nothing else."""

    default: str | None = None
    """Name that serves a request without a model; None: nothing does."""
    to_default: tuple[str, ...] = ()
    """Forms of names that mean the default, where there is one; every form of an alias comes before them."""
    busy_percent: int = 0
    """A device is busy when other processes use more of its time than this, percent; 0: none ever is."""
    busy_wait_s: float | None = None
    """How long a wait for a lease may be while an upstream may serve, seconds; None: as long as it takes."""


def table_of(
    candidates: Iterable[CandidateModel],
    aliases: Iterable[Alias] = (),
    *,
    fallbacks: Mapping[str, tuple[str, ...]] | None = None,
    private: frozenset[str] = frozenset(),
    habits: Habits | None = None,
) -> NameTable:
    """Resolve every name.

    Args:
        candidates: Models, families and models of upstreams.
        aliases: Names for several of them.
        fallbacks: Local substitutes of a model that is asked for by its own name, best first.
        private: Models that make a request private.
        habits: What holds for names that say nothing else; None: the defaults.

    Raises:
        CatalogueError: A name occurs twice, an alias or the default names nothing known, or leads back to itself.
    """
    known: dict[str, CandidateModel] = {}
    for one in candidates:
        if one.name in known:
            raise CatalogueError(f"{one.name!r} is the name of two models, families or upstream models")
        known[one.name] = one
    named, habits = _aliases_by_name(aliases, known), habits or Habits()
    entries: dict[str, Entry] = {}
    for name, one in known.items():
        others = tuple(known[other] for other in (fallbacks or {}).get(name, ()))
        entries[name] = Entry(candidates=_distinct((one, *others)), private=name in private)
    for name, alias in named.items():
        entry = _entry(alias, known, named)
        wait_s = habits.busy_wait_s if alias.busy_wait_s is None else alias.busy_wait_s
        entries[name] = replace(entry, busy_wait_s=wait_s, private=_is_private(name, named, private))
    own = [(name, entries.pop(name)) for name in named if is_wildcard(name)]
    return NameTable(
        entries=entries,
        has_cloud=any(leads_out(one) for one in known.values()),
        wild=Wildcards(own, _to_default(habits, entries)),
        default=habits.default,
        busy_percent=habits.busy_percent,
    )


def _to_default(habits: Habits, entries: Mapping[str, Entry]) -> list[tuple[str, Entry]]:
    if habits.default is None:
        return []
    if habits.default not in entries:
        raise CatalogueError(f"default: {habits.default!r} is no model, family, upstream model or alias")
    return [(form, entries[habits.default]) for form in habits.to_default]


def _aliases_by_name(aliases: Iterable[Alias], known: Mapping[str, CandidateModel]) -> dict[str, Alias]:
    named: dict[str, Alias] = {}
    for alias in aliases:
        if alias.name in known or alias.name in named:
            raise CatalogueError(f"alias {alias.name!r}: the name is taken")
        named[alias.name] = alias
    return named


def _entry(alias: Alias, known: Mapping[str, CandidateModel], named: Mapping[str, Alias]) -> Entry:
    branches = tuple(_flat(alias.name, known, named, ()))
    ruled = {name for branch in branches for name, _ in branch.under}
    return Entry(
        candidates=_distinct(one.candidate for one in branches),
        prefer=alias.prefer,
        deadline_s=alias.deadline_s,
        task=alias.task,
        branches=branches if ruled else (),
        rules={name: named[name].rules for name in ruled},
        own=alias.rules,
    )


def _flat(
    name: str, known: Mapping[str, CandidateModel], named: Mapping[str, Alias], path: tuple[str, ...]
) -> list[Branch]:
    if name in path:
        raise CatalogueError(f"alias {name!r} leads back to itself: {' → '.join((*path, name))}")
    if name in known:
        return [Branch(candidate=known[name])]
    if name not in named:
        raise CatalogueError(f"alias {path[-1]!r}: {name!r} is no model, family, upstream model or alias")
    alias = named[name]
    found: list[Branch] = []
    for number, candidates in enumerate((alias.candidates, *(rule.candidates for rule in alias.rules))):
        inner = [one for each in candidates for one in _flat(each, known, named, (*path, name))]
        found += [replace(one, under=((name, number), *one.under)) for one in inner] if alias.rules else inner
    return [replace(one, candidate=_changed(one.candidate, alias.parameters)) for one in found]


def _changed(one: CandidateModel, by: Parameters) -> CandidateModel:
    return replace(one, parameters=one.parameters.within(by))


def _is_private(name: str, named: Mapping[str, Alias], private: frozenset[str]) -> bool:
    """Tell whether a name is private: it is if it leads to a private one, by whatever rule."""
    if name not in named:
        return name in private
    return named[name].private or any(_is_private(inner, named, private) for inner in named[name].leads_to)


def _distinct(candidates: Iterable[CandidateModel]) -> tuple[CandidateModel, ...]:
    """Return one candidate of each name: the first, for the best comes first."""
    found: dict[str, CandidateModel] = {}
    for one in candidates:
        found.setdefault(one.name, one)
    return tuple(found.values())

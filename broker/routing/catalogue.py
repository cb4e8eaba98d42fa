"""What can be asked for: models, families of variants, models of upstreams, aliases; each as its ordered candidates.

Rule: one space of names. An alias may name aliases; the result is a flat list without repetition, in the order written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.core.lease import PRIORITIES, Priority
from broker.routing.request import Kind

MILLION = 1_000_000


class CatalogueError(ValueError):
    """The tables contradict each other; the message says where."""


class Prefer(StrEnum):
    """Which of several candidates that meet the deadline is taken."""

    CHEAPEST = "cheapest"
    """The cheapest; among equals a local one, then the order written."""
    LISTED = "listed"
    """The first in the order written."""


class Protocol(StrEnum):
    """What an upstream speaks; nothing is translated."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


SPOKEN = {
    Protocol.OPENAI: frozenset({Kind.CHAT, Kind.COMPLETION, Kind.RESPONSES, Kind.EMBEDDINGS}),
    Protocol.ANTHROPIC: frozenset({Kind.MESSAGES}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a model can do; None: not known, so not a reason to pass it over."""

    kinds: frozenset[Kind] | None = None
    context_tokens: int | None = None
    """Prompt and reply together."""
    max_tools: int | None = None
    structured: bool | None = None
    vision: bool | None = None

    @property
    def needs_content(self) -> bool:
        """Must a request be read to be compared with this?"""
        return (self.context_tokens, self.max_tools, self.structured, self.vision) != (None, None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Micro-units of the currency per million tokens, whole numbers."""

    prompt: int = 0
    cached: int | None = None
    """Prompt tokens that the upstream had in its cache; None: as ``prompt``."""
    reply: int = 0

    def cost_micro(self, *, prompt_tokens: int, reply_tokens: int, cached_tokens: int = 0) -> int:
        """What a call costs, micro-units, rounded up."""
        cached = min(cached_tokens, prompt_tokens)
        cached_price = self.prompt if self.cached is None else self.cached
        total = (prompt_tokens - cached) * self.prompt + cached * cached_price + reply_tokens * self.reply
        return -(-total // MILLION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A model of the pool: one quantisation of a family."""

    name: str
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """A candidate of the pool."""

    name: str
    """The family's, or the model's own."""
    variants: tuple[Variant, ...]
    """Best first; one for a plain model."""
    abilities: Abilities = field(default_factory=Abilities)
    offered_tokens: int | None = None
    """What clients are told of its context, where routing does not check it."""
    reply_tokens: int = 1024
    """Room kept for the reply of a request that does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A candidate at an upstream."""

    name: str
    upstream: str
    remote_name: str
    protocol: Protocol = Protocol.OPENAI
    abilities: Abilities = field(default_factory=Abilities)
    reply_tokens: int = 4096
    prices: Prices = field(default_factory=Prices)
    answers_as: tuple[str, ...] = ()
    """Names by which it may answer, beside ``remote_name``; none: any but ``others``."""
    others: tuple[str, ...] = ()
    """What the upstream calls the other models that it offers us."""
    first_byte_s: float = 2.0
    """Expected wait for its first byte, seconds."""
    classes: tuple[Priority, ...] = PRIORITIES
    """Whose requests may go there."""
    inside: bool = False
    """A server of the operator's own: what is private may go there."""


Candidate = Local | Cloud


def leads_out(candidate: Candidate) -> bool:
    """Does a request leave the house with it?"""
    return isinstance(candidate, Cloud) and not candidate.inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name for several candidates."""

    name: str
    candidates: tuple[str, ...]
    prefer: Prefer = Prefer.CHEAPEST
    deadline_s: float | None = None
    """For requests that bring none, seconds."""
    private: bool = False
    """Whoever asks by this name is private."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A name that can be asked for, resolved."""

    candidates: tuple[Candidate, ...]
    prefer: Prefer = Prefer.CHEAPEST
    deadline_s: float | None = None
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All names."""

    entries: Mapping[str, Entry]
    has_cloud: bool
    """Can any request leave at all? While none can, no content is looked at for privacy's sake."""


def table_of(
    candidates: Iterable[Candidate],
    aliases: Iterable[Alias] = (),
    *,
    fallbacks: Mapping[str, tuple[str, ...]] | None = None,
    private: frozenset[str] = frozenset(),
) -> Table:
    """Resolve every name.

    Args:
        candidates: Models, families and models of upstreams.
        aliases: Names for several of them.
        fallbacks: Local substitutes of a model that is asked for by its own name, best first.
        private: Models that make a request private.

    Raises:
        CatalogueError: A name occurs twice, an alias names nothing known or leads back to itself.
    """
    known: dict[str, Candidate] = {}
    for one in candidates:
        if one.name in known:
            raise CatalogueError(f"{one.name!r} is the name of two models, families or upstream models")
        known[one.name] = one
    named = _aliases_by_name(aliases, known)
    entries: dict[str, Entry] = {}
    for name, one in known.items():
        others = tuple(known[other] for other in (fallbacks or {}).get(name, ()))
        entries[name] = Entry(candidates=_distinct((one, *others)), private=name in private)
    for name, alias in named.items():
        entries[name] = Entry(
            candidates=_distinct(_flat(name, known, named, ())),
            prefer=alias.prefer,
            deadline_s=alias.deadline_s,
            private=_is_private(name, named, private),
        )
    return Table(entries=entries, has_cloud=any(leads_out(one) for one in known.values()))


def _aliases_by_name(aliases: Iterable[Alias], known: Mapping[str, Candidate]) -> dict[str, Alias]:
    named: dict[str, Alias] = {}
    for alias in aliases:
        if alias.name in known or alias.name in named:
            raise CatalogueError(f"alias {alias.name!r}: the name is taken")
        named[alias.name] = alias
    return named


def _flat(
    name: str, known: Mapping[str, Candidate], named: Mapping[str, Alias], path: tuple[str, ...]
) -> list[Candidate]:
    if name in path:
        raise CatalogueError(f"alias {name!r} leads back to itself: {' → '.join((*path, name))}")
    if name in known:
        return [known[name]]
    if name not in named:
        raise CatalogueError(f"alias {path[-1]!r}: {name!r} is no model, family, upstream model or alias")
    return [one for inner in named[name].candidates for one in _flat(inner, known, named, (*path, name))]


def _is_private(name: str, named: Mapping[str, Alias], private: frozenset[str]) -> bool:
    """A name that leads to a private one is private."""
    if name not in named:
        return name in private
    return named[name].private or any(_is_private(inner, named, private) for inner in named[name].candidates)


def _distinct(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    return tuple({one.name: one for one in candidates}.values())

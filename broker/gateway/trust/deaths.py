"""Deaths of a model's server at work: what they have in common, and what is therefore refused for a while.

Values and functions only, one value per model; the caller keeps it and passes its clock.

Rule: the least is refused that explains the deaths. What the last three have in common, the narrowest first: the same
request; a kind of request of which none was survived since (pictures, a grammar …, or more than any length that was
survived); one session; one API key. It is banned for a pause that doubles each time, then tried; one that is survived
lifts the ban. Only deaths that have nothing in common, and of which no party can have had more than a part, are the
model's own. So nobody's requests take a model from others, and nobody has to find out by dying.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from broker.gateway.trust.testimony import Pause, RequestSource
from broker.gateway.trust.traits import Traits

MAX_DEATHS = 16
"""How many deaths are remembered; the last ones are."""
MAX_SUSPECTS = 64
"""How many of the requests that were in flight are remembered of one death."""
MAX_BANS = 8
MAX_TALLIED = 256
"""For how many sources survivals are counted apart."""
LONG = 16_384
"""Bytes; a shorter request is not long enough for its length to be the cause."""
NEARLY = 0.9
"""Share of the length that killed from which on a request is not tried either, unless as much was survived."""


class Ban(StrEnum):
    """Whether a ban holds: it is held, then on trial, then lifted or held again."""

    HELD = "held"
    """Requests of this kind are refused."""
    TRIAL = "trial"
    """Its pause is over: requests are let through, and what becomes of the first one decides."""
    LIFTED = "lifted"


class BanEvent(StrEnum):
    """What can happen to a ban."""

    TRY = "try"
    DIE = "die"
    """The server died under a request of this kind."""
    SURVIVE = "survive"
    """A request of this kind was answered."""
    HEAL = "heal"
    """The operator says that all is mended."""


BAN_TRANSITIONS: dict[Ban, dict[BanEvent, Ban]] = {
    Ban.HELD: {
        BanEvent.TRY: Ban.TRIAL,
        BanEvent.DIE: Ban.HELD,
        BanEvent.SURVIVE: Ban.LIFTED,
        BanEvent.HEAL: Ban.LIFTED,
    },
    Ban.TRIAL: {
        BanEvent.DIE: Ban.HELD,
        BanEvent.SURVIVE: Ban.LIFTED,
        BanEvent.HEAL: Ban.LIFTED,
    },
    Ban.LIFTED: {},
}


class CommonTraits(StrEnum):
    """What several deaths have in common."""

    REQUEST = "request"
    MARK = "mark"
    LENGTH = "length"
    SESSION = "session"
    PARTY = "party"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A request that was in flight when the server died."""

    source: RequestSource
    request: str
    """Tells which requests are the same: its retries have it too."""
    traits: Traits | None = None
    """What the request is like; None: it is another broker's, and nobody here has seen it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """One death of a model's server, and what was in flight there."""

    at_s: float
    slot: str
    generation: int = 0
    """Generation of the slot's orders at its load: each load is another server."""
    final: bool = False
    """The worker said so. Else only its connections broke off, and a server that lives may do that again."""
    suspects: tuple[Suspect, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """The kind of request that a model's server is believed to die of."""

    common: CommonTraits
    what: str = ""
    """The request, the mark, the session or the party, whichever is meant."""
    size: int = 0
    """Bytes from which on a request is of this kind, where the length is meant."""

    def fits(self, one: Suspect) -> bool:
        """Tell whether a request is of this kind."""
        traits = one.traits
        if self.common is CommonTraits.REQUEST:
            return one.request == self.what
        if self.common is CommonTraits.SESSION:
            return _session(one.source) == self.what
        if self.common is CommonTraits.PARTY:
            return one.source.party == self.what
        if traits is None:
            return False
        return traits.size >= self.size if self.common is CommonTraits.LENGTH else self.what in traits.marks

    def words(self) -> str:
        """Describe the kind to people, without anybody's name."""
        if self.common is CommonTraits.MARK:
            return self.what if self.what.startswith("calls") else f"requests with {self.what}"
        if self.common is CommonTraits.LENGTH:
            return f"prompts of {Traits(size=self.size).words()}, and longer ones"
        return {
            CommonTraits.REQUEST: "one and the same request",
            CommonTraits.SESSION: "the requests of one session",
            CommonTraits.PARTY: "the requests of one API key",
        }[self.common]


@dataclass(frozen=True, slots=True, kw_only=True)
class Banned:
    """A kind of request that is refused, or was, and until when."""

    culprit: Culprit
    state: Ban = Ban.HELD
    until_s: float = 0.0
    times: int = 1
    """How often the ban was begun; its pause doubles with each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """Requests that were answered since the first death that is remembered."""

    count: int = 0
    marks: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    """Marks that at least one of the requests lacked."""
    sources: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeathRules:
    """What an operator may set, and what follows from it. Durations in seconds."""

    deaths_at: int = 3
    """How many deaths must have something in common before that is banned."""
    condemn_at: int = 5
    """How many deaths with nothing in common condemn the model."""
    forget_s: float = 3600.0
    """How long a death is remembered."""
    pause_s: Pause
    """How long a ban is held, by how often it was begun before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mortality:
    """What is known about one model's server."""

    deaths: tuple[Death, ...] = ()
    survived: Survived = field(default_factory=Survived)
    longest: int = 0
    """Length of the longest request that was ever survived, bytes."""
    bans: tuple[Banned, ...] = ()

    def recent(self, now_s: float, rules: DeathRules) -> tuple[Death, ...]:
        """Return the deaths that still count, oldest first."""
        return tuple(death for death in self.deaths if now_s - death.at_s < rules.forget_s)

    def held(self, now_s: float) -> tuple[Banned, ...]:
        """Return the bans by which requests are refused now."""
        return tuple(ban for ban in self.bans if ban.state is Ban.HELD and now_s < ban.until_s)


def next_ban(state: Ban, event: BanEvent) -> Ban:
    """Follow the table.

    Raises:
        KeyError: The table has no such arrow.
    """
    return BAN_TRANSITIONS[state][event]


# ------------------------------------------------------------------------------------------------------ what happened
def died(known: Mortality, death: Death, rules: DeathRules) -> Mortality:
    """Note a death: bans that foresaw it are renewed, else what the last deaths have in common is banned."""
    now_s = death.at_s
    fresh = known.recent(now_s, rules)
    survived = known.survived if fresh else Survived()
    known = replace(known, deaths=(*fresh, death)[-MAX_DEATHS:], survived=survived)
    foreseen = [ban for ban in known.bans if any(ban.culprit.fits(one) for one in death.suspects)]
    if foreseen:
        return replace(known, bans=tuple(_renewed(ban, now_s, rules) if ban in foreseen else ban for ban in known.bans))
    culprit = culprit_of(known, rules)
    if culprit is None:
        return known
    ban = Banned(culprit=culprit, until_s=now_s + rules.pause_s(0))
    return replace(known, bans=(*known.bans, ban)[-MAX_BANS:])


def _renewed(ban: Banned, now_s: float, rules: DeathRules) -> Banned:
    """Begin a ban again; each trial that failed makes its pause longer, but not others that were in flight already."""
    if ban.state is Ban.HELD and now_s < ban.until_s:
        return ban
    state = next_ban(ban.state, BanEvent.DIE)
    return replace(ban, state=state, until_s=now_s + rules.pause_s(ban.times), times=ban.times + 1)


def survived(known: Mortality, size: int, one: Callable[[], Suspect]) -> Mortality:
    """Note that a request was answered.

    Args:
        known: What is known about its model.
        size: Bytes of its body.
        one: Describes the request; it is called only where there was a death.
    """
    if not known.deaths:
        return known if size <= known.longest else replace(known, longest=size)
    suspect = one()
    bans = tuple(ban for ban in known.bans if not ban.culprit.fits(suspect))
    tally = known.survived
    marks = frozenset(suspect.traits.marks if suspect.traits else ())
    sources = tally.sources
    if len(sources) < MAX_TALLIED:
        sources = sources + Counter({suspect.source.party: 1, _session(suspect.source): 1})
    tally = Survived(
        count=tally.count + 1,
        marks=tally.marks | marks,
        without=tally.without | (_seen_marks(known.deaths) - marks),
        sources=sources,
    )
    return replace(known, bans=bans, survived=tally, longest=max(known.longest, size))


def banned(known: Mortality, one: Callable[[], Suspect], now_s: float) -> tuple[Mortality, Banned | None]:
    """Tell whether a request may be sent. A ban whose pause is over is on trial from then on."""
    if not known.bans:
        return known, None
    suspect = one()
    fitting = [ban for ban in known.bans if ban.culprit.fits(suspect)]
    held = [ban for ban in fitting if ban.state is Ban.HELD and now_s < ban.until_s]
    if held:
        return known, max(held, key=lambda ban: ban.until_s)
    tried = {ban: replace(ban, state=next_ban(ban.state, BanEvent.TRY)) for ban in fitting if ban.state is Ban.HELD}
    return replace(known, bans=tuple(tried.get(ban, ban) for ban in known.bans)), None


# ------------------------------------------------------------------------------------------------ what follows from it
def culprit_of(known: Mortality, rules: DeathRules) -> Culprit | None:
    """Find what the last deaths have in common, the narrowest first; None: nothing, or there are too few of them."""
    last = known.deaths[-rules.deaths_at :]
    if len(last) < rules.deaths_at or not all(death.suspects for death in last):
        return None
    requests = _in_all(last, _request)
    if requests:
        return Culprit(common=CommonTraits.REQUEST, what=max(requests, key=lambda request: _size_of(request, last)))
    return _kind(known, last) or _somebody(known, last)


def _kind(known: Mortality, last: tuple[Death, ...]) -> Culprit | None:
    """Find a mark that no survived request had and some of those lacked, or a length that none of them had."""
    tally = known.survived
    for mark in _in_all(last, _marks):
        if mark not in tally.marks and mark in tally.without:
            return Culprit(common=CommonTraits.MARK, what=mark)
    size = min(max(one.traits.size if one.traits else 0 for one in death.suspects) for death in last)
    if size < LONG or not 0 < known.longest < size:
        return None
    return Culprit(common=CommonTraits.LENGTH, size=max(known.longest + 1, round(size * NEARLY)))


def _somebody(known: Mortality, last: tuple[Death, ...]) -> Culprit | None:
    """Find who was there each time, and of those the one who had the fewest requests answered."""
    kinds: tuple[tuple[CommonTraits, Callable[[Suspect], list[str]]], ...] = (
        (CommonTraits.SESSION, lambda one: [_session(one.source)]),
        (CommonTraits.PARTY, lambda one: [one.source.party]),
    )
    for common, of in kinds:
        if names := _in_all(last, of):
            return Culprit(common=common, what=min(names, key=lambda name: known.survived.sources[name]))
    return None


def _request(one: Suspect) -> list[str]:
    return [one.request] if one.request else []


def _marks(one: Suspect) -> tuple[str, ...]:
    return one.traits.marks if one.traits else ()


def _size_of(request: str, deaths: tuple[Death, ...]) -> int:
    suspects = (one for death in deaths for one in death.suspects if one.request == request and one.traits)
    return max((one.traits.size for one in suspects if one.traits), default=0)


def is_the_models_own(known: Mortality, now_s: float, rules: DeathRules) -> bool:
    """Tell whether it died too often under everybody: for every party enough deaths must have happened without it."""
    recent = known.recent(now_s, rules)
    if len(recent) < rules.condemn_at or culprit_of(known, rules) is not None:
        return False
    parts = Counter(party for death in recent for party in {one.source.party for one in death.suspects})
    return len(recent) - max(parts.values(), default=0) >= rules.deaths_at


def told(known: Mortality, now_s: float, rules: DeathRules) -> str:
    """Tell people, without anybody's name, what it died of and what is refused; empty: it has not died."""
    refused = [
        f"{ban.culprit.words()}: there each time, refused for {ban.until_s - now_s:.0f} s" for ban in known.held(now_s)
    ]
    return "; ".join(line for line in (told_of_deaths(known, now_s, rules), *refused) if line)


def told_of_deaths(known: Mortality, now_s: float, rules: DeathRules) -> str:
    """Tell people how often and under what it died, without what is refused; empty: it has not died."""
    recent = known.recent(now_s, rules)
    if not recent:
        return ""
    times = "once" if len(recent) == 1 else f"{len(recent)} times"
    line = f"its server died {times} while it worked (last: {now_s - recent[-1].at_s:.0f} s ago)"
    largest = max((one.traits for death in recent for one in death.suspects if one.traits), key=_size, default=None)
    if largest is not None:
        line += f", the largest request then in flight had {largest.words()}"
    return line


def _size(traits: Traits) -> int:
    return traits.size


def _session(source: RequestSource) -> str:
    """Name its session together with its party: two parties may give sessions the same name."""
    return f"{source.party}\x00{source.session}"


def _seen_marks(deaths: Iterable[Death]) -> frozenset[str]:
    return frozenset(mark for death in deaths for one in death.suspects if one.traits for mark in one.traits.marks)


def _in_all(deaths: Iterable[Death], of: Callable[[Suspect], Iterable[str]]) -> list[str]:
    """Return what at least one suspect of every death has, in order of its first appearance."""
    sets = [list(dict.fromkeys(word for one in death.suspects for word in of(one))) for death in deaths]
    return [word for word in sets[0] if all(word in other for other in sets[1:])]

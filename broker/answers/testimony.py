"""Who says what about a model's answers: each session for itself, and how far they agree.

Values and functions only. Rule: what one party has to say moves nobody but itself. A party is an API key, or a session
where callers have no key; it has half of ``suspect_at`` at most in what is said in common, so two must agree. A retry
is no second witness: one that says so is not counted by the caller, and what may be one adds nothing in common.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

Pause = Callable[[int], float]
"""Seconds, by how often it was for nothing already."""

MAX_WITNESSES = 64
"""Sessions that are remembered for one model; who sends many displaces its own."""
MAX_RECENT = 8
"""Requests of one session whose retries are known."""
RETRY_S = 10.0
"""The same request asked again so soon after a bad answer to it may be a retry, seconds: SDKs pause 8 s at most."""
AGAIN = 0.5
"""What a bad answer to such a request adds to the session's own doubt; to what is said in common it adds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Whose request it was."""

    party: str
    """Who is independent of whom."""
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A bad answer."""

    source: Source
    request: str
    """What the request's retries have in common with it."""
    asked_s: float
    """When it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What one session has seen of a model."""

    source: Source
    doubt: float = 0.0
    """Its own: bad answers, less what its own good ones took off."""
    share: float = 0.0
    """In the common doubt; good answers of others take it off too."""
    last_bad_s: float = 0.0
    refuted: int = 0
    """Canaries that its doubt called for and that were passed, in a row."""
    silent_until_s: float = 0.0
    """Its doubt calls for no canary before."""
    recent: tuple[tuple[str, float], ...] = ()
    """Requests that were answered badly, and when that was counted."""

    def has_said(self, complaint: Complaint) -> bool:
        """Is it about a retry of what was counted?"""
        return any(known == complaint.request and complaint.asked_s - at_s < RETRY_S for known, at_s in self.recent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How much counts. Durations in seconds."""

    suspect_at: float
    forgiveness: float
    forget_s: float

    @property
    def most(self) -> float:
        """Of the common doubt, one party's part at most."""
        return self.suspect_at / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """Of one model."""

    witnesses: tuple[Witness, ...] = field(default=())

    def of(self, source: Source) -> Witness | None:
        """What one session has seen."""
        return next((one for one in self.witnesses if one.source == source), None)

    def doubt_of(self, source: Source, now_s: float, rules: Rules) -> float:
        """How much a session doubts the model itself."""
        known = self.of(source)
        return 0.0 if known is None or now_s - known.last_bad_s >= rules.forget_s else known.doubt

    def in_common(self, rules: Rules) -> float:
        """How much all of them doubt it together."""
        parties: dict[str, float] = {}
        for one in self.witnesses:
            parties[one.source.party] = min(rules.most, parties.get(one.source.party, 0.0) + one.share)
        return sum(parties.values())

    def callers(self, now_s: float, rules: Rules) -> tuple[Witness, ...]:
        """Who doubts it enough to have it tested, and may."""
        return tuple(
            one
            for one in self.witnesses
            if self.doubt_of(one.source, now_s, rules) >= rules.suspect_at and now_s >= one.silent_until_s
        )


def against(said: Testimony, complaint: Complaint, now_s: float, rules: Rules) -> Testimony:
    """A request was answered badly."""
    source = complaint.source
    said = without_old(said, now_s, rules)
    known = said.of(source) or Witness(source=source)
    own, common = (AGAIN, 0.0) if known.has_said(complaint) else (1.0, 1.0)
    one = replace(
        known,
        doubt=min(2.0 * rules.suspect_at, said.doubt_of(source, now_s, rules) + own),
        share=min(rules.most, known.share + common),
        last_bad_s=now_s,
        recent=(*known.recent, (complaint.request, now_s))[-MAX_RECENT:],
    )
    return Testimony(witnesses=_bounded((*(other for other in said.witnesses if other is not known), one)))


def in_favour(said: Testimony, source: Source, now_s: float, rules: Rules) -> Testimony:
    """A request of this source was answered well: less doubt of its own, and less in common, whoever had it."""
    left = rules.forgiveness
    changed: dict[Source, Witness] = {}
    for one in sorted(said.witnesses, key=lambda one: (one.source != source, one.source.party != source.party)):
        taken = min(left, one.share)
        left -= taken
        own = rules.forgiveness if one.source == source else 0.0
        changed[one.source] = replace(one, share=one.share - taken, doubt=max(0.0, one.doubt - own))
    kept = Testimony(witnesses=tuple(changed[one.source] for one in said.witnesses))
    return without_old(kept, now_s, rules)


def refuted(said: Testimony, now_s: float, rules: Rules, pause_s: Pause) -> Testimony:
    """The model has passed its canary: nothing is left in common, and who called for it waits longer next time."""
    kept = []
    for one in said.witnesses:
        if one.doubt >= rules.suspect_at:
            quiet = max(one.silent_until_s, now_s + pause_s(one.refuted))
            kept.append(replace(one, share=0.0, refuted=one.refuted + 1, silent_until_s=quiet))
    return Testimony(witnesses=tuple(kept))


def without_old(said: Testimony, now_s: float, rules: Rules) -> Testimony:
    """Forget who has had no bad answer for long, and has nothing else to be remembered for."""
    kept = tuple(one for one in said.witnesses if _matters(one, now_s, rules))
    return said if len(kept) == len(said.witnesses) else Testimony(witnesses=kept)


def _matters(one: Witness, now_s: float, rules: Rules) -> bool:
    is_fresh = now_s - one.last_bad_s < rules.forget_s
    return (is_fresh and (one.doubt > 0 or one.share > 0)) or now_s < one.silent_until_s


def _bounded(witnesses: tuple[Witness, ...]) -> tuple[Witness, ...]:
    if len(witnesses) <= MAX_WITNESSES:
        return witnesses
    sizes: dict[str, int] = {}
    for one in witnesses:
        sizes[one.source.party] = sizes.get(one.source.party, 0) + 1
    loudest = max(sizes, key=lambda party: sizes[party])
    oldest = next(one for one in witnesses if one.source.party == loudest)
    return tuple(one for one in witnesses if one is not oldest)

"""Who says what about a model's answers: each session for itself, and how far they agree.

Values and functions only. Rule: what one party has to say moves nobody but itself. A party is an API key, or a session
where callers have no key; it has half of ``suspect_at`` at most in what is said in common, so two must agree. A retry
is no second witness: one that says so is not counted by the caller, and what may be one adds nothing in common.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

Pause = Callable[[int], float]
"""Seconds to wait, by how often it was in vain already."""

MAX_WITNESSES = 64
"""Most sessions that are remembered for one model; an API key that brings many displaces its own."""
MAX_RECENT = 8
"""Most requests of one session whose retries are recognised."""
RETRY_S = 10.0
"""The same request asked again so soon after a bad answer to it may be a retry, seconds: SDKs pause 8 s at most."""
AGAIN = 0.5
"""What a bad answer to such a request adds to the session's own doubt; to what is said in common it adds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSource:
    """Whose request it was: which party's, and in which of its sessions."""

    party: str
    """Who is independent of whom: an API key, or the session of callers who have no key."""
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One bad answer, by whom and about which request."""

    source: RequestSource
    request: str
    """Tells which requests are the same: its retries have it too."""
    asked_s: float
    """When the request was asked, seconds of the caller's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What one session has seen of a model."""

    source: RequestSource
    doubt: float = 0.0
    """The session's own doubt: its bad answers, less what its own good ones took off."""
    share: float = 0.0
    """Its share in the common doubt; good answers of others take it off too."""
    last_bad_s: float = 0.0
    refuted: int = 0
    """How many canaries in a row its doubt called for in vain: they were passed."""
    silent_until_s: float = 0.0
    """Before this moment its doubt calls for no canary."""
    recent: tuple[tuple[str, float], ...] = ()
    """Requests of the session that were answered badly, and when that was counted."""

    def has_said(self, complaint: Complaint) -> bool:
        """Tell whether the complaint is about a retry of what was counted."""
        return any(known == complaint.request and complaint.asked_s - at_s < RETRY_S for known, at_s in self.recent)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestimonyRules:
    """How much a bad and a good answer count. Durations in seconds."""

    suspect_at: float
    forgiveness: float
    forget_s: float

    @property
    def most(self) -> float:
        """How much one party can have of the common doubt at most."""
        return self.suspect_at / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """What all sessions have seen of one model."""

    witnesses: tuple[Witness, ...] = field(default=())

    def of(self, source: RequestSource) -> Witness | None:
        """Return what one session has seen; None: nothing that is remembered."""
        return next((one for one in self.witnesses if one.source == source), None)

    def doubt_of(self, source: RequestSource, now_s: float, rules: TestimonyRules) -> float:
        """Tell how much a session doubts the model itself."""
        known = self.of(source)
        return 0.0 if known is None or now_s - known.last_bad_s >= rules.forget_s else known.doubt

    def in_common(self, rules: TestimonyRules) -> float:
        """Tell how much all sessions doubt the model together."""
        parties: dict[str, float] = {}
        for one in self.witnesses:
            parties[one.source.party] = min(rules.most, parties.get(one.source.party, 0.0) + one.share)
        return sum(parties.values())

    def callers(self, now_s: float, rules: TestimonyRules) -> tuple[Witness, ...]:
        """Return those who doubt the model enough to have it tested, and may call for it now."""
        return tuple(
            one
            for one in self.witnesses
            if self.doubt_of(one.source, now_s, rules) >= rules.suspect_at and now_s >= one.silent_until_s
        )


def against(said: Testimony, complaint: Complaint, now_s: float, rules: TestimonyRules) -> Testimony:
    """Note that a request was answered badly."""
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


def in_favour(said: Testimony, source: RequestSource, now_s: float, rules: TestimonyRules) -> Testimony:
    """Note that a request of this source was answered well: its own doubt sinks, and the common one, whoever had it."""
    left = rules.forgiveness
    changed: dict[RequestSource, Witness] = {}
    for one in sorted(said.witnesses, key=lambda one: (one.source != source, one.source.party != source.party)):
        taken = min(left, one.share)
        left -= taken
        own = rules.forgiveness if one.source == source else 0.0
        changed[one.source] = replace(one, share=one.share - taken, doubt=max(0.0, one.doubt - own))
    kept = Testimony(witnesses=tuple(changed[one.source] for one in said.witnesses))
    return without_old(kept, now_s, rules)


def refuted(said: Testimony, now_s: float, rules: TestimonyRules, pause_s: Pause) -> Testimony:
    """Note a passed canary: no common doubt is left, and who called for it waits longer next time."""
    kept = []
    for one in said.witnesses:
        if one.doubt >= rules.suspect_at:
            quiet = max(one.silent_until_s, now_s + pause_s(one.refuted))
            kept.append(replace(one, share=0.0, refuted=one.refuted + 1, silent_until_s=quiet))
    return Testimony(witnesses=tuple(kept))


def without_old(said: Testimony, now_s: float, rules: TestimonyRules) -> Testimony:
    """Forget who has had no bad answer for long, and has nothing else to be remembered for."""
    kept = tuple(one for one in said.witnesses if _matters(one, now_s, rules))
    return said if len(kept) == len(said.witnesses) else Testimony(witnesses=kept)


def _matters(one: Witness, now_s: float, rules: TestimonyRules) -> bool:
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

"""How far a model is trusted: repeated bad answers, then a test question, then quarantine, and the way back.

Values and functions only, one value per model; the caller keeps it and passes its clock.

Rule: every bad answer adds one to the doubt, every good one takes ``forgiveness`` off, and ``forget_s`` without a bad
one empties it. So both a run of failures and a lasting share of them (above forgiveness / (1 + forgiveness)) count.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Trust(StrEnum):
    """States."""

    TRUSTED = "trusted"
    SUSPECT = "suspect"
    """Serves, but others are preferred; a canary is due."""
    CANARY = "canary"
    """A test question is under way; whether it serves is as before."""
    QUARANTINED = "quarantined"
    """Serves nobody; canaries at growing intervals decide."""


class TrustEvent(StrEnum):
    """What can happen."""

    DOUBT = "doubt"
    CLEAR = "clear"
    CONDEMN = "condemn"
    TEST = "test"
    PASS = "pass"  # noqa: S105 - a word, no password
    WAIT = "wait"
    VOID = "void"
    HEAL = "heal"


TRANSITIONS: dict[Trust, dict[TrustEvent, Trust]] = {
    Trust.TRUSTED: {
        TrustEvent.DOUBT: Trust.SUSPECT,
        TrustEvent.HEAL: Trust.TRUSTED,
    },
    Trust.SUSPECT: {
        TrustEvent.CLEAR: Trust.TRUSTED,
        TrustEvent.CONDEMN: Trust.QUARANTINED,
        TrustEvent.TEST: Trust.CANARY,
        TrustEvent.HEAL: Trust.TRUSTED,
    },
    Trust.CANARY: {
        TrustEvent.CLEAR: Trust.TRUSTED,
        TrustEvent.CONDEMN: Trust.QUARANTINED,
        TrustEvent.PASS: Trust.TRUSTED,
        TrustEvent.WAIT: Trust.QUARANTINED,
        TrustEvent.VOID: Trust.SUSPECT,
        TrustEvent.HEAL: Trust.TRUSTED,
    },
    Trust.QUARANTINED: {
        TrustEvent.TEST: Trust.CANARY,
        TrustEvent.HEAL: Trust.TRUSTED,
    },
}


class IllegalTrustEventError(ValueError):
    """The event cannot happen in this state; nothing changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspicionSettings:
    """What an operator may set. Durations in seconds."""

    suspect_at: float = 2.0
    """Doubt that makes a model suspect: two bad answers in a row, for one may be chance."""
    quarantine_at: float = 5.0
    """Doubt that needs no canary any more."""
    forgiveness: float = 0.25
    """What a good answer takes off: a model that fails more than every fifth time becomes suspect in the long run."""
    forget_s: float = 600.0
    """After so long without a bad answer there is no doubt left."""
    canary_timeout_s: float = 60.0
    """A canary without a result has failed after this: its broker may be gone."""
    canaries_to_heal: int = 2
    """Canaries in a row that must pass to leave quarantine; one clears a suspect."""
    quarantine_s: float = 60.0
    """From quarantine to its first canary; doubles with every canary that fails."""
    quarantine_max_s: float = 3600.0
    """The interval grows no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What is known about one model. A new one is trusted."""

    state: Trust = Trust.TRUSTED
    doubt: float = 0.0
    last_bad_s: float | None = None
    since_s: float = 0.0
    """When the state began."""
    next_canary_s: float = 0.0
    """Not before; for a suspect at once."""
    setbacks: int = 0
    """Times it was quarantined, or failed a canary there, since it was last trusted."""
    passed: int = 0
    """Canaries in a row that it passed in quarantine."""
    voids: int = 0
    """Canaries that showed nothing, since it was last trusted or quarantined."""

    @property
    def serves(self) -> bool:
        """May requests go to it at all?"""
        return self.setbacks == 0

    @property
    def preferred(self) -> bool:
        """Is it as good as any other candidate?"""
        return self.state is Trust.TRUSTED


def step(state: Trust, event: TrustEvent) -> Trust:
    """The table's answer.

    Raises:
        IllegalTrustEventError: The table has none.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTrustEventError(f"{event} cannot happen to a model that is {state}") from None


def after_good(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """A client's request was answered well. One that is quarantined is judged by its canaries alone."""
    if not known.serves:
        return known
    doubt = max(0.0, _doubt(known, now_s, settings) - settings.forgiveness)
    if known.state is not Trust.TRUSTED and doubt <= settings.suspect_at / 2:
        return _trusted(known, TrustEvent.CLEAR, now_s)
    return replace(known, doubt=doubt)


def after_bad(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """A client's request was answered badly (``Verdict.blames_model``)."""
    if not known.serves:
        return known
    doubt = _doubt(known, now_s, settings) + 1.0
    known = replace(known, doubt=doubt, last_bad_s=now_s)
    if known.state is Trust.TRUSTED and doubt >= settings.suspect_at:
        known = replace(known, state=step(known.state, TrustEvent.DOUBT), since_s=now_s, next_canary_s=now_s)
    if known.state is not Trust.TRUSTED and doubt >= settings.quarantine_at:
        return _quarantined(known, TrustEvent.CONDEMN, now_s, settings)
    return known


def canary_due(known: Suspicion, now_s: float) -> bool:
    """Should a canary be sent now? Whoever sends it records ``canary_sent`` first, so that one is under way."""
    return known.state in {Trust.SUSPECT, Trust.QUARANTINED} and now_s >= known.next_canary_s


def canary_sent(known: Suspicion, now_s: float) -> Suspicion:
    """It is under way.

    Raises:
        IllegalTrustEventError: Nobody asked for one.
    """
    return replace(known, state=step(known.state, TrustEvent.TEST), since_s=now_s)


def canary_passed(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """It was answered well: a suspect is cleared, one in quarantine after enough of them.

    A result that comes when none is awaited any more changes nothing.
    """
    if known.state is not Trust.CANARY:
        return known
    if known.serves or known.passed + 1 >= settings.canaries_to_heal:
        return _trusted(known, TrustEvent.PASS, now_s)
    state = step(known.state, TrustEvent.WAIT)
    return replace(known, state=state, since_s=now_s, next_canary_s=now_s, passed=known.passed + 1)


def canary_failed(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """It was answered badly, or not at all. A late result changes nothing."""
    if known.state is not Trust.CANARY:
        return known
    return _quarantined(known, TrustEvent.WAIT, now_s, settings)


def canary_void(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """It was answered, and the answer says nothing of the model: as before, and the next one later each time.

    A suspect whose bad answers are forgotten is cleared. A late result changes nothing.
    """
    if known.state is not Trust.CANARY:
        return known
    if known.serves and _doubt(known, now_s, settings) <= 0:
        return _trusted(known, TrustEvent.CLEAR, now_s)
    state = step(known.state, TrustEvent.VOID if known.serves else TrustEvent.WAIT)
    pause_s = _pause_s(max(0, known.setbacks - 1) + known.voids, settings)
    return replace(known, state=state, since_s=now_s, next_canary_s=now_s + pause_s, voids=known.voids + 1)


def timed_out(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """Look at the clock: a canary without a result has failed."""
    if known.state is Trust.CANARY and now_s - known.since_s >= settings.canary_timeout_s:
        return canary_failed(known, now_s, settings)
    return known


def healed(known: Suspicion, now_s: float) -> Suspicion:
    """The operator says it is mended."""
    return _trusted(known, TrustEvent.HEAL, now_s)


def _doubt(known: Suspicion, now_s: float, settings: SuspicionSettings) -> float:
    old = known.last_bad_s is None or now_s - known.last_bad_s >= settings.forget_s
    return 0.0 if old else known.doubt


def _trusted(known: Suspicion, event: TrustEvent, now_s: float) -> Suspicion:
    return Suspicion(state=step(known.state, event), since_s=now_s)


def _quarantined(known: Suspicion, event: TrustEvent, now_s: float, settings: SuspicionSettings) -> Suspicion:
    return replace(
        known,
        state=step(known.state, event),
        since_s=now_s,
        next_canary_s=now_s + _pause_s(known.setbacks, settings),
        setbacks=known.setbacks + 1,
        passed=0,
        voids=0,
    )


def _pause_s(setbacks: int, settings: SuspicionSettings) -> float:
    return min(settings.quarantine_max_s, settings.quarantine_s * 2.0 ** min(setbacks, 32))

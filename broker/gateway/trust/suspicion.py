"""How far a model is trusted: bad answers, then a test question, then quarantine, and the way back.

Values and functions only, one value per model; the caller keeps it and passes its clock.

Rule: only a canary condemns. What one session has seen counts for that session and calls for a canary; what several
independent parties agree on makes the model suspect for everybody (``testimony``); a model that passes its canary
serves everybody, whatever was said. Every bad answer adds one to a session's doubt, every good one takes
``forgiveness`` off, and ``forget_s`` without a bad one empties it: so both a run of failures and a lasting share of
them (above forgiveness / (1 + forgiveness)) count. Answers that are empty and may be say nothing, but where nothing
else is heard for long somebody asks.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from broker.gateway.trust.testimony import (
    Complaint,
    RequestSource,
    Testimony,
    TestimonyRules,
    against,
    in_favour,
    refuted,
    without_old,
)


class Trust(StrEnum):
    """How far a model is trusted; it decides whether and when it serves."""

    TRUSTED = "trusted"
    """All trust it, but perhaps for a session that has seen bad answers."""
    SUSPECT = "suspect"
    """It serves, but others are preferred; a canary is due."""
    CANARY = "canary"
    """A test question is under way; whether it serves, and is preferred, is as before."""
    QUARANTINED = "quarantined"
    """It serves nobody; canaries at growing intervals decide."""


class TrustEvent(StrEnum):
    """What can happen to a model's trust."""

    DOUBT = "doubt"
    """Several parties agree in their doubt."""
    CLEAR = "clear"
    TEST = "test"
    PASS = "pass"  # noqa: S105 - a word, no password
    FAIL = "fail"
    WAIT = "wait"
    """The canary of a model in quarantine has shown nothing."""
    VOID = "void"
    """The canary of a suspect has shown nothing."""
    CONDEMN = "condemn"
    """Its server died under everybody."""
    HEAL = "heal"


TRANSITIONS: dict[Trust, dict[TrustEvent, Trust]] = {
    Trust.TRUSTED: {
        TrustEvent.DOUBT: Trust.SUSPECT,
        TrustEvent.TEST: Trust.CANARY,
        TrustEvent.CONDEMN: Trust.QUARANTINED,
        TrustEvent.HEAL: Trust.TRUSTED,
    },
    Trust.SUSPECT: {
        TrustEvent.CLEAR: Trust.TRUSTED,
        TrustEvent.TEST: Trust.CANARY,
        TrustEvent.CONDEMN: Trust.QUARANTINED,
        TrustEvent.HEAL: Trust.TRUSTED,
    },
    Trust.CANARY: {
        TrustEvent.CLEAR: Trust.TRUSTED,
        TrustEvent.PASS: Trust.TRUSTED,
        TrustEvent.FAIL: Trust.QUARANTINED,
        TrustEvent.WAIT: Trust.QUARANTINED,
        TrustEvent.VOID: Trust.SUSPECT,
        TrustEvent.CONDEMN: Trust.QUARANTINED,
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
    """What an operator may set about trust. Durations in seconds."""

    suspect_at: float = 2.0
    """How much doubt of one session calls for a canary, and how much of several makes a model suspect: one bad answer
    may be chance."""
    forgiveness: float = 0.25
    """What a good answer takes off: a model that fails more than every fifth time becomes suspect in the long run."""
    forget_s: float = 600.0
    """After so long without a bad answer there is no doubt left."""
    hush_at: int = 8
    """How many answers in a row, to anybody, may be rightly empty before it is asked whether it still says anything."""
    canary_timeout_s: float = 60.0
    """A canary's question that has no answer after this, with nobody else on the model, has found silence."""
    silences_to_fail: int = 2
    """Canaries in a row that find silence until it is believed: a server may still work for a client that is gone."""
    quarantine_s: float = 60.0
    """How long a quarantine lasts before its first canary; it doubles with every canary that fails."""
    quarantine_max_s: float = 3600.0
    """The longest pause between two canaries of a model in quarantine."""

    @property
    def rules(self) -> TestimonyRules:
        """Return the part of the settings that is about testimony."""
        return TestimonyRules(suspect_at=self.suspect_at, forgiveness=self.forgiveness, forget_s=self.forget_s)

    def pause_s(self, times: int) -> float:
        """Tell how long the next canary waits after so many in vain."""
        return min(self.quarantine_max_s, self.quarantine_s * 2.0 ** min(times, 32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What is known about one model. A new one is trusted."""

    state: Trust = Trust.TRUSTED
    said: Testimony = field(default_factory=Testimony)
    agreed: bool = False
    """Several parties doubt it, so others go before it for everybody."""
    called: bool = False
    """Somebody has called for a canary."""
    hushed: int = 0
    """How many answers in a row were empty and might be."""
    unheard: int = 0
    """How many canaries in a row were called for by such answers, and passed."""
    since_s: float = 0.0
    """When the state began, seconds of the caller's clock."""
    next_canary_s: float = 0.0
    """When the next canary may be sent, seconds of the caller's clock; a suspect's is sent at once."""
    setbacks: int = 0
    """How often it was quarantined, or failed a canary there, since it was last trusted."""
    voids: int = 0
    """How many canaries showed nothing, since it was last trusted or quarantined."""
    silences: int = 0
    """How many canaries in a row found silence."""

    @property
    def serves(self) -> bool:
        """Tell whether requests may go to it at all."""
        return self.setbacks == 0

    @property
    def may_be_left_alone(self) -> bool:
        """Tell whether it need not be tested while nobody uses it. One that all pass by would never come back."""
        return self.serves and not self.agreed

    @property
    def is_as_new(self) -> bool:
        """Tell whether nothing is known about it."""
        nothing_said = not self.said.witnesses and self.hushed == 0 and self.unheard == 0
        return self.state is Trust.TRUSTED and nothing_said and not self.called

    def is_preferred_by(self, source: RequestSource, now_s: float, settings: SuspicionSettings) -> bool:
        """Tell whether it is as good as any other candidate, for all that this session and all together have seen."""
        if self.agreed or not self.serves:
            return False
        return self.said.doubt_of(source, now_s, settings.rules) < settings.suspect_at


def step(state: Trust, event: TrustEvent) -> Trust:
    """Look the next state up in the table.

    Raises:
        IllegalTrustEventError: The event cannot happen in this state.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTrustEventError(f"{event} cannot happen to a model that is {state}") from None


# ------------------------------------------------------------------------------------------------------------ answers
def after_good(known: Suspicion, source: RequestSource, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """Note that a client's request was answered well. A model in quarantine is judged by its canaries alone."""
    if not known.serves:
        return known
    said = in_favour(known.said, source, now_s, settings.rules)
    known = replace(known, said=said, hushed=0, unheard=0)
    if known.agreed and said.in_common(settings.rules) <= settings.suspect_at / 2:
        return _cleared(known, now_s)
    return known


def after_nothing(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """Note that a client's request was answered by nothing, which may be right."""
    if not known.serves:
        return known
    known = replace(known, hushed=known.hushed + 1)
    if known.hushed < settings.hush_at * 2 ** min(known.unheard, 16) or known.called:
        return known
    return replace(known, called=True, hushed=0, unheard=known.unheard + 1, next_canary_s=now_s)


def after_bad(known: Suspicion, complaint: Complaint, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """Note that a client's request was answered badly (``Verdict.blames_model``)."""
    if not known.serves:
        return known
    said = against(known.said, complaint, now_s, settings.rules)
    known = replace(known, said=said)
    if not known.agreed and said.in_common(settings.rules) >= settings.suspect_at:
        known = replace(known, agreed=True, called=True, next_canary_s=now_s)
        if known.state is Trust.TRUSTED:
            return replace(known, state=step(known.state, TrustEvent.DOUBT), since_s=now_s)
        return known
    return alarmed(known, now_s) if said.callers(now_s, settings.rules) else known


def alarmed(known: Suspicion, now_s: float) -> Suspicion:
    """Call for a canary: somebody has reason to have the model tested."""
    if not known.serves or known.called:
        return known
    return replace(known, called=True, next_canary_s=now_s)


def condemned(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """Quarantine a model whose server died again and again under several parties: a short question would show less."""
    return _quarantined(known, TrustEvent.CONDEMN, now_s, settings) if known.serves else known


# ----------------------------------------------------------------------------------------------------------- canaries
def canary_due(known: Suspicion, now_s: float) -> bool:
    """Tell whether to send a canary now. Whoever does so records ``canary_sent`` first, so that it is the only one."""
    is_wanted = known.state is Trust.QUARANTINED or (known.state is not Trust.CANARY and known.called)
    return is_wanted and now_s >= known.next_canary_s


def canary_sent(known: Suspicion, now_s: float) -> Suspicion:
    """Note that a canary is under way.

    Raises:
        IllegalTrustEventError: There is one under way.
    """
    return replace(known, state=step(known.state, TrustEvent.TEST), since_s=now_s)


def canary_passed(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """Note a good answer: all trust the model, and who called for the canary in vain waits longer next time.

    A result that comes when none is awaited any more changes nothing.
    """
    if known.state is not Trust.CANARY:
        return known
    if not known.serves:
        return _trusted(known, TrustEvent.PASS, now_s)
    said = refuted(known.said, now_s, settings.rules, settings.pause_s)
    return replace(_trusted(known, TrustEvent.PASS, now_s), said=said, unheard=known.unheard)


def canary_failed(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """Note that the canary was answered badly. A late result changes nothing."""
    if known.state is not Trust.CANARY:
        return known
    return _quarantined(known, TrustEvent.FAIL, now_s, settings)


def canary_silent(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """Note that the canary was not answered, with nobody else on the model: believed when it happens again."""
    if known.state is not Trust.CANARY:
        return known
    if not known.serves or known.silences + 1 >= settings.silences_to_fail:
        return _quarantined(known, TrustEvent.FAIL, now_s, settings)
    again = replace(known, silences=known.silences + 1)
    return replace(_returned(again, now_s), called=True, next_canary_s=now_s)


def canary_void(known: Suspicion, now_s: float, settings: SuspicionSettings) -> Suspicion:
    """Note an answer that says nothing of the model: the state is as before, and the next canary is later each time.

    A model whose bad answers are forgotten is cleared. A late result changes nothing.
    """
    if known.state is not Trust.CANARY:
        return known
    pause_s = settings.pause_s(max(0, known.setbacks - 1) + known.voids)
    if not known.serves:
        state = step(known.state, TrustEvent.WAIT)
        return replace(known, state=state, since_s=now_s, next_canary_s=now_s + pause_s, voids=known.voids + 1)
    said = without_old(known.said, now_s, settings.rules)
    if not said.witnesses:
        return replace(_trusted(known, TrustEvent.CLEAR, now_s), unheard=known.unheard)
    again = replace(known, said=said, voids=known.voids + 1, silences=0)
    return replace(_returned(again, now_s), called=True, next_canary_s=now_s + pause_s)


def healed(known: Suspicion, now_s: float) -> Suspicion:
    """Trust the model again: the operator says that all is mended."""
    return _trusted(known, TrustEvent.HEAL, now_s)


# ------------------------------------------------------------------------------------------------------------- inside
def _returned(known: Suspicion, now_s: float) -> Suspicion:
    """Return to the state before a canary that has decided nothing."""
    event = TrustEvent.VOID if known.agreed else TrustEvent.CLEAR
    return replace(known, state=step(known.state, event), since_s=now_s)


def _cleared(known: Suspicion, now_s: float) -> Suspicion:
    """Clear a suspect whose accusers no longer agree; what each of them has seen stays."""
    known = replace(known, agreed=False)
    if known.state is Trust.CANARY:
        return known
    return replace(known, state=step(known.state, TrustEvent.CLEAR), called=False, since_s=now_s)


def _trusted(known: Suspicion, event: TrustEvent, now_s: float) -> Suspicion:
    return Suspicion(state=step(known.state, event), since_s=now_s)


def _quarantined(known: Suspicion, event: TrustEvent, now_s: float, settings: SuspicionSettings) -> Suspicion:
    return Suspicion(
        state=step(known.state, event),
        since_s=now_s,
        next_canary_s=now_s + settings.pause_s(known.setbacks),
        setbacks=known.setbacks + 1,
    )

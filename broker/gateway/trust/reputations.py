"""What this process thinks of each model's answers: who is asked last, who is asked no more, who is to be tested.

Rule: it is about the models of the pool; upstreams have circuit breakers. Values and rules are in ``suspicion``; this
keeps one value per model and tells when its state changes. A restart forgets it.
"""

import logging
import math
from typing import Protocol

from broker.accounting.answers import AnswerAccounts
from broker.answers.verdict import Verdict, VerdictReason
from broker.core.lease import ModelName
from broker.gateway.trust.canary import Finding
from broker.gateway.trust.suspicion import (
    Suspicion,
    SuspicionSettings,
    Trust,
    after_bad,
    after_good,
    after_nothing,
    alarmed,
    canary_due,
    canary_failed,
    canary_passed,
    canary_sent,
    canary_silent,
    canary_void,
    condemned,
    healed,
)
from broker.gateway.trust.testimony import Complaint, RequestSource
from broker.protocol.error_bodies import ClientError

log = logging.getLogger("hotseat.gateway")

LOCAL = "local"
"""The route of the pool's own models, in what is counted."""
MAX_RETRY_AFTER_S = 60
_NEW = Suspicion()
_AFTER = {
    Finding.PASSED: canary_passed,
    Finding.FAILED: canary_failed,
    Finding.VOID: canary_void,
    Finding.SILENT: canary_silent,
}


class Asker(Protocol):
    """The request whose answer is judged."""

    @property
    def source(self) -> RequestSource:
        """Return for whom its answer speaks."""

    @property
    def path(self) -> str:
        """Return the address below ``/v1`` at which it was asked."""

    def complaint(self) -> Complaint | None:
        """Return its bad answer, to be counted; None: it is a retry of one that was."""


class Reputations:
    """One ``Suspicion`` for each model; seconds are loop time."""

    def __init__(self, settings: SuspicionSettings, accounts: AnswerAccounts) -> None:
        self._settings = settings
        self._accounts = accounts
        self._known: dict[ModelName, Suspicion] = {}
        self._last: dict[ModelName, VerdictReason] = {}
        self._why: dict[ModelName, str] = {}
        self._doubted_at: dict[ModelName, str] = {}
        self._put_off: dict[ModelName, float] = {}

    def of(self, model: ModelName) -> Suspicion:
        """Return what is known about a model."""
        return self._known.get(model, _NEW)

    def is_preferred(self, model: ModelName, source: RequestSource, now_s: float) -> bool:
        """Tell whether the model is as good as any other candidate, for this session."""
        known = self._known.get(model)
        return known is None or known.is_preferred_by(source, now_s, self._settings)

    def doubted_at(self, model: ModelName) -> str:
        """Return the address below ``/v1`` at which it last answered badly, or with nothing; empty: none."""
        return self._doubted_at.get(model, "")

    def last_failure(self, model: ModelName) -> str:
        """Return the wire word of its last bad answer; empty: none."""
        return self._last.get(model, "")

    # ---------------------------------------------------------------------------------------------------- requests
    def refusal(self, model: ModelName, now_s: float) -> ClientError:
        """Make the error for a request to a quarantined model; it says when to ask again."""
        wait_s = max(1, min(MAX_RETRY_AFTER_S, math.ceil(self.of(model).next_canary_s - now_s)))
        message = f"{model} is quarantined: {self.why(model)}; it is being tested, ask again in {wait_s} s"
        return ClientError(code="model_quarantined", message=message, retry_after_s=wait_s)

    def why(self, model: ModelName) -> str:
        """Tell in words why the model is not trusted by all; empty: it is."""
        known, last = self.of(model), self._last.get(model) or "no answer"
        if not known.serves:
            answers = f"its answers were of no use, and those to the broker's own questions too (last: {last})"
            return self._why.get(model) or answers
        if known.agreed:
            return f"its answers were of no use to several (last: {last}); it is being tested"
        if known.said.witnesses:
            return f"answers of no use (last: {last}) to {_counted(len(known.said.witnesses))}, and not to others"
        return ""

    def judged(self, model: ModelName, verdict: Verdict, asker: Asker, now_s: float) -> None:
        """Take in the verdict on the answer to a client's request."""
        if verdict.blames_model:
            self._last[model] = verdict.reason
            self._doubted_at[model] = asker.path
            if (complaint := asker.complaint()) is not None:
                self._put(model, after_bad(self.of(model), complaint, now_s, self._settings))
        elif verdict.says_nothing:
            self._doubted_at[model] = asker.path
            self._put(model, after_nothing(self.of(model), now_s, self._settings))
        elif verdict.vouches and model in self._known:
            self._put(model, after_good(self._known[model], asker.source, now_s, self._settings))

    def alarmed(self, model: ModelName, now_s: float) -> None:
        """Have the model tested: somebody has reason to ask for it."""
        self._put(model, alarmed(self.of(model), now_s))

    def condemned(self, model: ModelName, why: str, now_s: float) -> None:
        """Quarantine a model whose server died again and again, whoever used it; ``why`` in words."""
        if self.of(model).serves:
            self._why[model] = why
            self._put(model, condemned(self.of(model), now_s, self._settings))

    # ---------------------------------------------------------------------------------------------------- canaries
    def due(self, now_s: float) -> ModelName | None:
        """Return the model that is to be tested now: the one that is due for longest. None: none is."""
        waiting = [
            (max(known.next_canary_s, self._put_off.get(model, 0.0)), model)
            for model, known in self._known.items()
            if canary_due(known, now_s) and now_s >= self._put_off.get(model, 0.0)
        ]
        return min(waiting, default=(0.0, None))[1]

    def put_off(self, model: ModelName, until_s: float) -> None:
        """Leave a model that could not be tested alone until then; ``until_s`` is loop time."""
        self._put_off[model] = until_s

    def canary_sent(self, model: ModelName, now_s: float) -> bool:
        """Note that a test question is about to be asked; False: nobody wants one any more."""
        if not canary_due(self.of(model), now_s):
            return False
        self._put(model, canary_sent(self.of(model), now_s))
        return True

    def canary_answered(self, model: ModelName, finding: Finding, verdict: Verdict | None, now_s: float) -> None:
        """Take in what a canary has shown; without a verdict there was no answer at all."""
        if verdict is not None and verdict.failed:
            self._last[model] = verdict.reason
        told = {"model": model, "finding": finding, "reason": verdict.reason if verdict else "none"}
        log.info("canary_answered", extra=told)
        self._put(model, _AFTER[finding](self.of(model), now_s, self._settings))

    def replaced(self, model: ModelName, now_s: float) -> None:
        """Begin anew with a model whose server was proved useless and ended."""
        if (known := self._known.get(model)) is not None:
            self._put(model, healed(known, now_s))

    def heal(self, now_s: float) -> None:
        """Trust all models again: the operator says that all is mended."""
        for model, known in list(self._known.items()):
            self._put(model, healed(known, now_s))

    # ------------------------------------------------------------------------------------------------------ inside
    def _put(self, model: ModelName, known: Suspicion) -> None:
        before = self.of(model).state
        if known.is_as_new:
            self._known.pop(model, None)
            self._put_off.pop(model, None)
        else:
            self._known[model] = known
        if known.serves:
            self._why.pop(model, None)
        if known.state is not before:
            self._accounts.trust(model, {state.value: state is known.state for state in Trust})
            told = {"model": model, "from": before, "to": known.state, "witnesses": len(known.said.witnesses)}
            log.warning("trust_changed", extra=told | {"last_failure": self._last.get(model, "")})


def _counted(sessions: int) -> str:
    return "one session" if sessions == 1 else f"{sessions} sessions"

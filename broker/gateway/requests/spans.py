"""Which session a traced call belongs to, as its agent's hook registered it.

Of a W3C ``traceparent`` only the span identifies a call: the trace is shared by an agent and its sub-agents (measured
with OpenClaw, where it equals the span id of the hook ``model_call_started``).
"""

import re
from dataclasses import dataclass, field

from broker.core.lease import Session
from broker.gateway.requests.shared import Shared

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


@dataclass(frozen=True, slots=True)
class _Span:
    session: str
    model: str
    until_s: float


@dataclass(slots=True)
class Spans:
    """The registered spans of one process; a client must reach the broker that it registered with.

    Rule: a span counts for calls of the API key that registered it.
    """

    limit: int = 20_000
    """Most spans that are kept; beyond it the oldest of the key that has most are forgotten first."""
    kept_s: float = 900.0
    """How long a span is kept, seconds; a call that comes later is not recognised."""
    _spans: Shared[tuple[str, str], _Span] = field(init=False)
    """The registered spans, by API key and span id."""

    def __post_init__(self) -> None:
        self._spans = Shared(self.limit, lambda name: name[0])

    def register(self, span_id: str, session: Session, *, model: str, now_s: float) -> None:
        """Remember whose call it is; a second registration of the same key replaces the first."""
        self._spans.put((session.owner, span_id), _Span(session.key, model, now_s + self.kept_s))

    def session_of(self, traceparent: bytes | None, owner: str, model: str, now_s: float) -> str | None:
        """Return the session of a call of this key; None: its span is unknown, or was registered for another model."""
        found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
        span = self._spans.get((owner, found[1].decode())) if found else None
        if span is None or span.until_s < now_s:
            return None
        # A registration may name the model with its provider before it.
        return span.session if span.model == model or span.model.endswith("/" + model) else None

"""Which session a traced call belongs to, as its agent's hook registered it.

Of a W3C ``traceparent`` only the span identifies a call: the trace is shared by an agent and its sub-agents (measured
with OpenClaw, where it equals the span id of the hook ``model_call_started``).
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


@dataclass(frozen=True, slots=True)
class _Span:
    session: str
    model: str
    until_s: float


@dataclass(slots=True)
class Spans:
    """The registered spans of one process; a client must reach the broker that it registered with."""

    limit: int = 20_000
    """The oldest are forgotten first."""
    kept_s: float = 900.0
    """A call that comes later than this after its registration is not recognised."""
    _spans: "OrderedDict[str, _Span]" = field(default_factory=OrderedDict)

    def register(self, span_id: str, *, session: str, model: str, now_s: float) -> None:
        """Remember whose call it is; a second registration replaces the first."""
        self._spans.pop(span_id, None)
        self._spans[span_id] = _Span(session, model, now_s + self.kept_s)
        if len(self._spans) > self.limit:
            self._spans.popitem(last=False)

    def session_of(self, traceparent: bytes | None, model: str, now_s: float) -> str | None:
        """The session of a call; None where its span is unknown, or was registered for another model."""
        found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
        span = self._spans.get(found[1].decode()) if found else None
        if span is None or span.until_s < now_s:
            return None
        # A registration may name the model with its provider before it.
        return span.session if span.model == model or span.model.endswith("/" + model) else None

"""Bodies of what an agent's hooks tell of its conversations, as documented.

The broker decodes them with the msgspec twins in ``broker/api/spans.py`` and ``broker/api/activity.py``.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.http.api import Body, Model, PriorityName, SessionKey, Ttl

SPAN_PATTERN = r"^[0-9a-f]{16}$"
"""W3C trace context: 16 hexadecimal digits."""


class SpanRequest(Body):
    """Whose model call a traced request is: sent by the agent's side just before or while it makes the call."""

    span_id: Annotated[str, StringConstraints(pattern=SPAN_PATTERN)]
    """The parent id of the call's ``traceparent`` header."""
    session_key: SessionKey
    """The conversation that the call belongs to."""
    model: Model
    """The model that is called, also with its provider and a slash before it."""


class ActivityRequest(Body):
    """What a conversation does: the messages ``activity`` and ``release`` of the ingress stream, over HTTP."""

    type: Literal["activity", "release"] = "activity"
    """``activity``: a warm lease on the model, opened or prolonged, never shortened. ``release``: give it back."""
    session_key: SessionKey
    """The conversation that the message is about."""
    model: Model
    """A name of the catalogue."""
    ttl_seconds: Ttl | None = None
    """How long it lives without a further message. Null: 120."""
    priority: PriorityName = "normal"
    """Class of a lease that this message opens."""
    seq: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Grows per session; what is not above the last one is late or repeated, and ignored."""

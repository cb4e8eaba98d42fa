"""Bodies of ``/sessions``, as documented; the broker decodes them with the msgspec twin in ``broker/api/spans.py``."""

from typing import Annotated

from pydantic import StringConstraints

from schemas.api import Body, Model, SessionKey

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

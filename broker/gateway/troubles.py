"""What a client is told when it gets no answer of the model, in its own protocol: as a body, or as a last event."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from broker.core.errors import CapacityError, HotseatError, RequestError
from broker.gateway.endpoints import Dialect, Endpoint, Shape

STATUS: dict[str, int] = {
    "malformed": 400,
    "bad_argument": 400,
    "unauthorised": 401,
    "not_allowed": 403,
    "not_found": 404,
    "unknown_model": 404,
    "method_not_allowed": 405,
    "session_taken": 409,
    "too_large": 413,
    "media_type": 415,
    "queue_full": 429,
    "session_queue_full": 429,
    "tenant_full": 429,
    "rate_limited": 429,
    "waiters_full": 429,
    "busy": 429,
    "upstream": 502,
    "upstream_unreachable": 502,
    "upstream_broken": 502,
    "upstream_refused": 502,
    "lease_lost": 502,
    "schema_violations": 422,
    "useless_answer": 502,
    "upstream_silent": 504,
}
"""By our error code; another one is judged by its group."""

CODES = {"unknown_model": "model_not_found", "unauthorised": "invalid_api_key"}
"""Where OpenAI's clients know a word of their own."""

LISTED = "GET /v1/models lists what there is"
"""What to do about a wrong name."""

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An error as a client may see it; the optional fields are left out where they say nothing."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None
    lease_id: str | None = None
    position: int | None = None
    eta_s: float | None = None
    more: Mapping[str, object] = field(default_factory=dict)
    """Further fields, by name."""

    def detail(self) -> dict[str, object]:
        """The fields of our own."""
        if self.lease_id is None:
            return dict(self.more)
        return {"lease_id": self.lease_id, "position": self.position, "eta_s": self.eta_s, **self.more}


class TroubleError(Exception):
    """Raised where an exchange ends without the model's answer."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def trouble_of(error: HotseatError) -> Trouble:
    """How an error of ours is told."""
    status = STATUS.get(error.code) or (400 if isinstance(error, RequestError) else 503)
    retry_after_s = error.retry_after_s if isinstance(error, CapacityError) else None
    if error.code in {"store_unavailable", "uninitialised"}:
        retry_after_s = 5
    return Trouble(
        status=503 if error.code in {"model_too_large", "model_quarantined"} else status,
        code=CODES.get(error.code, error.code),
        message=_message(error),
        retry_after_s=retry_after_s,
    )


def _message(error: HotseatError) -> str:
    message = str(error) or error.code
    return f"{message}; {LISTED}" if error.code == "unknown_model" else message


def body_of(trouble: Trouble, dialect: Dialect) -> bytes:
    """The error as a JSON body."""
    return msgspec.json.encode(_envelope(trouble, dialect))


def last_event(trouble: Trouble, endpoint: Endpoint) -> bytes:
    """The error as the event that ends a stream which has begun; both official SDKs raise it as an API error."""
    envelope = _envelope(trouble, endpoint.dialect)
    name = b""
    if endpoint.shape is Shape.MESSAGES:
        name = b"event: error\n"
    elif endpoint.shape is Shape.RESPONSES:
        name = b"event: error\n"
        typed = {"type": "error", "code": trouble.code, "message": trouble.message, "param": None, "sequence_number": 0}
        envelope = typed | envelope
    return name + b"data: " + msgspec.json.encode(envelope) + b"\n\n"


def _envelope(trouble: Trouble, dialect: Dialect) -> dict[str, object]:
    if dialect is Dialect.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(trouble.status) or _fallback(trouble.status, "api_error")
        of_anthropic: dict[str, object] = {"type": kind, "message": trouble.message, "code": trouble.code}
        return {"type": "error", "error": of_anthropic | trouble.detail()}
    kind = _OPENAI_TYPES.get(trouble.status) or _fallback(trouble.status, "server_error")
    error: dict[str, object] = {"message": trouble.message, "type": kind, "param": None, "code": trouble.code}
    return {"error": error | trouble.detail()}


def _fallback(status: int, of_server: str) -> str:
    return of_server if status >= 500 else "invalid_request_error"

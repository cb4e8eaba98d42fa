"""The error page: every code that a client may be told, and how each dialect tells it.

A dialect is OpenAI's envelope or Anthropic's below ``/v1``; None is a problem document (RFC 9457), which all other
addresses answer with.

Rule: a code has one row and one status. It has a second status below ``/v1`` only where clients of ``/v1`` would do the
wrong thing with the first one, and the reason stands beside it. Title and type follow from the status.
``docs/http-api.md`` shows the page; ``python -m tools.error_table`` writes it there.
"""

from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus

from broker.protocol.endpoints import Dialect


class Surface(Enum):
    """The part of the API where a code is met. The row holds in every dialect: whoever raises it there tells it so."""

    EVERYWHERE = "both"
    V1 = "/v1"
    OURS = "our API"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """What one code means, and with which status it is told."""

    status: int
    meaning: str
    """In a few words, for the documentation."""
    where: Surface = field(default=Surface.EVERYWHERE, kw_only=True)
    v1_status: int | None = field(default=None, kw_only=True)
    """Below ``/v1``; None: the same."""
    because: str = field(default="", kw_only=True)
    """Why it is another one there."""
    after_s: int | None = field(default=None, kw_only=True)
    """Whole seconds for ``Retry-After`` where whoever raises it knows none; None: asking again does not help by itself,
    and there is no ``Retry-After``."""
    v1_code: str = field(default="", kw_only=True)
    """Where OpenAI's clients know a word of their own."""
    is_lasting: bool = field(default=False, kw_only=True)
    """Will the same request meet the same again? Then SDKs are told not to repeat it by themselves."""
    is_quoted: bool = field(default=False, kw_only=True)
    """Is the status that of whoever is quoted? Then ``status`` holds where that one named none."""
    advice: str = field(default="", kw_only=True)
    """Is said instead of the error's own words, which are for the operator."""

    def status_in(self, dialect: Dialect | None) -> int:
        """The HTTP status."""
        return self.status if dialect is None or self.v1_status is None else self.v1_status


_BAD_REQUEST = "the makers' own APIs answer 400 to a wrong value, and programs catch the SDKs' `BadRequestError`"
_OUR_SIDE = (
    "programs fall back on the SDKs' `InternalServerError`, which is any 5xx; for 424 the SDKs have no class, "
    "and for 422 one that blames the request"
)

ERRORS: dict[str, ErrorRow] = {
    # ------------------------------------------------------------------------------------------- how it was sent
    "malformed": ErrorRow(400, "not HTTP, not JSON, or not what the address takes"),
    "foreign_page": ErrorRow(403, "a web page that is not wanted asks"),
    "not_found": ErrorRow(404, "nothing is there, or it is somebody else's"),
    "method_not_allowed": ErrorRow(405, "`Allow` names the methods"),
    "not_acceptable": ErrorRow(406, "no form of answer that the client takes", where=Surface.OURS),
    "too_slow": ErrorRow(408, "the request did not arrive in time"),
    "too_large": ErrorRow(413, "the body is over its limit"),
    "media_type": ErrorRow(415, "no JSON in UTF-8, or packed in a way that is not known"),
    "foreign_host": ErrorRow(421, "asked under a name that is not the broker's"),
    "http_only": ErrorRow(426, "there is no WebSocket"),
    "head_too_large": ErrorRow(431, "request line and headers are over their limit"),
    "transfer_coding": ErrorRow(501, "only `chunked` is taken"),
    "http_version": ErrorRow(505, "only HTTP/1.1 and HTTP/1.0 are spoken"),
    "http_error": ErrorRow(400, "any other error of HTTP, with its own status", where=Surface.OURS, is_quoted=True),
    # ------------------------------------------------------------------------------------------------ who asks
    "unauthorised": ErrorRow(401, "no API key, or an unknown one", v1_code="invalid_api_key"),
    "not_allowed": ErrorRow(403, "the API key may not do this"),
    "rate_limited": ErrorRow(429, "the API key sends more than its rate", after_s=5),
    # --------------------------------------------------------------------------------------------- what it asks
    "invalid": ErrorRow(422, "JSON of the wrong shape", v1_status=400, because=_BAD_REQUEST),
    "bad_argument": ErrorRow(422, "a value is out of its bounds", v1_status=400, because=_BAD_REQUEST),
    "op_mismatch": ErrorRow(422, "the `Idempotency-Key` was used before for another request"),
    "incapable": ErrorRow(400, "no model of this name can do what is needed", where=Surface.V1),
    "too_long": ErrorRow(400, "prompt and reply's room fit no model of this name", where=Surface.V1),
    "unknown_model": ErrorRow(404, "there is no such model", v1_code="model_not_found"),
    "unknown_slot": ErrorRow(404, "there is no such slot", where=Surface.OURS),
    # ----------------------------------------------------------------------------------------------- its lease
    "stale_nonce": ErrorRow(409, "the lease was granted to somebody else since", where=Surface.OURS),
    "stale": ErrorRow(409, "the pool has changed since it was looked at", where=Surface.OURS),
    "in_use": ErrorRow(409, "somebody uses the model", where=Surface.OURS),
    "lease_ended": ErrorRow(410, "too late; ask for a new lease", where=Surface.OURS),
    "lease_lost": ErrorRow(502, "the lease ended before the answer did", where=Surface.V1),
    "life_ended": ErrorRow(503, "the broker begins anew; ask again", after_s=5),
    # ------------------------------------------------------------------------------------------- room in the line
    "queued": ErrorRow(429, "not free yet, and the place is kept", where=Surface.V1, after_s=1),
    "place_lost": ErrorRow(429, "the place in line is gone; ask again", where=Surface.V1, after_s=1),
    "too_late": ErrorRow(503, "a substitute was not free in time", where=Surface.V1, after_s=1),
    "queue_full": ErrorRow(429, "the pool's line is full", after_s=5),
    "session_queue_full": ErrorRow(429, "the session has as many tickets as it may", after_s=5),
    "tenant_full": ErrorRow(429, "the API key has as many leases as it may", after_s=5),
    "waiters_full": ErrorRow(429, "too many connections wait", after_s=5),
    "busy": ErrorRow(429, "as many requests, or bytes of them, as this process holds", after_s=5),
    "connections_full": ErrorRow(503, "as many connections as it may have", after_s=1),
    "descriptors_full": ErrorRow(503, "as many files open as it may have", after_s=1),
    # ----------------------------------------------------------------------------------------------- its model
    "model_too_large": ErrorRow(422, "no slot could ever hold it", v1_status=503, because=_OUR_SIDE, is_lasting=True),
    "load_failed": ErrorRow(
        424, "it cannot be loaded as it is", v1_status=503, because=_OUR_SIDE, after_s=30, is_lasting=True
    ),
    "model_quarantined": ErrorRow(
        424,
        "its loads failed too often, its answers are of no use, or it dies of such requests",
        v1_status=503,
        because=_OUR_SIDE,
        after_s=30,
    ),
    "model_off": ErrorRow(503, "an operator took it out of service", after_s=30, is_lasting=True),
    "model_not_warm": ErrorRow(503, "it is to be used only while it is loaded", after_s=30, is_lasting=True),
    "no_worker": ErrorRow(503, "no worker serves it now", where=Surface.V1, after_s=5),
    "private_refused": ErrorRow(503, "it may not leave, and no local model can serve it", where=Surface.V1, after_s=5),
    "budget_refused": ErrorRow(429, "the budget for upstreams is used up", where=Surface.V1, after_s=60),
    "unavailable": ErrorRow(503, "nothing can serve it now", where=Surface.V1, after_s=5),
    # ---------------------------------------------------------------------------------------------- its answer
    "upstream": ErrorRow(502, "a model server or upstream failed", where=Surface.V1),
    "upstream_unreachable": ErrorRow(502, "it cannot be reached", where=Surface.V1),
    "upstream_broken": ErrorRow(502, "it broke off its answer", where=Surface.V1),
    "upstream_silent": ErrorRow(504, "it fell silent", where=Surface.V1),
    "upstream_refused": ErrorRow(502, "it refuses its own load's key, or is not ready", where=Surface.V1),
    "upstream_error": ErrorRow(
        502,
        "it answered with an error that could not be passed on as it was",
        where=Surface.V1,
        is_quoted=True,
    ),
    "upstream_busy": ErrorRow(429, "an upstream has no room for the operator's account", where=Surface.V1, after_s=5),
    "useless_answer": ErrorRow(502, "the answer is of no use", where=Surface.V1),
    "schema_violations": ErrorRow(422, "every answer broke the schema", where=Surface.V1),
    # ---------------------------------------------------------------------------------------- broker and store
    "draining": ErrorRow(503, "the broker is shutting down", after_s=1),
    "no_picture": ErrorRow(503, "the broker has not looked at the pool yet", where=Surface.OURS, after_s=1),
    "not_ready": ErrorRow(503, "what `/readyz` finds wrong", where=Surface.OURS, after_s=2),
    "store_full": ErrorRow(503, "the store is over its memory limit", after_s=5),
    "store_unavailable": ErrorRow(
        503,
        "the store does not answer",
        after_s=5,
        advice="The lease store does not answer; your lease and place in line are kept there",
    ),
    "uninitialised": ErrorRow(
        503,
        "the store is empty until a worker registers",
        after_s=5,
        advice="The lease store is empty until a worker registers again; ask for new leases then",
    ),
    "library": ErrorRow(
        503,
        "the store's functions are another version's",
        after_s=5,
        advice="The lease store lacks this broker's functions; its log says why, and so does hotseat check",
    ),
    "internal": ErrorRow(
        500,
        "the broker failed; its log says how",
        advice="The broker failed; the operator finds the cause in its log, by this answer's x-request-id",
    ),
}
"""By code. One that stands here is never used again for something else: clients match on it."""

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def type_of(status: int, dialect: Dialect) -> str:
    """The word of an envelope for an error of this status."""
    of_anthropic = dialect is Dialect.ANTHROPIC
    if (known := (_ANTHROPIC_TYPES if of_anthropic else _OPENAI_TYPES).get(status)) is not None:
        return known
    if status < 500:
        return "invalid_request_error"
    return "api_error" if of_anthropic else "server_error"


def problem_type(code: str) -> str:
    """``type`` of a problem document."""
    return f"urn:hotseat:problem:{code}"


def title_of(status: int) -> str:
    """``title`` of a problem document."""
    return HTTPStatus(status).phrase

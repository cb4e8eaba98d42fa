"""RFC 9457 problem documents: one place that knows which error is which status."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.types import Scope

from broker.core.errors import BackendError, CapacityError, ConflictError, HotseatError, RequestError
from broker.gateway.client_side import REQUEST

log = logging.getLogger("hotseat.api")

JSON = b"application/problem+json"
RETRY_AFTER_S = 5
"""For errors of our side that pass by themselves."""


class MalformedError(RequestError):
    """Not JSON, or not the JSON we can read."""

    code = "malformed"


class InvalidError(RequestError):
    """JSON of the wrong shape."""

    code = "invalid"


class TooLargeError(RequestError):
    """The body is over the limit."""

    code = "too_large"


class MediaTypeError(RequestError):
    """Not plain JSON in UTF-8."""

    code = "media_type"


class NotFoundError(RequestError):
    """There is nothing at this address."""

    code = "not_found"


class MethodNotAllowedError(RequestError):
    """The address does not answer to this method."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow
        """Methods that it answers to."""


class UnauthorisedError(RequestError):
    """No API key, or an unknown one."""

    code = "unauthorised"


class RateLimitedError(CapacityError):
    """The API key sends more than its rate."""

    code = "rate_limited"


class BusyError(CapacityError):
    """More requests in flight than this process serves at once."""

    code = "busy"


STATUS: dict[str, int] = {
    "malformed": 400,
    "unauthorised": 401,
    "not_allowed": 403,
    "not_found": 404,
    "unknown_model": 404,
    "unknown_slot": 404,
    "stale_nonce": 409,
    "method_not_allowed": 405,
    "session_taken": 409,
    "stale": 409,
    "slot_state": 409,
    "lease_ended": 410,
    "too_large": 413,
    "media_type": 415,
    "invalid": 422,
    "bad_argument": 422,
    "op_mismatch": 422,
    "model_too_large": 422,
    "model_quarantined": 424,
    "queue_full": 429,
    "session_queue_full": 429,
    "tenant_full": 429,
    "rate_limited": 429,
    "waiters_full": 429,
    "busy": 503,
    "draining": 503,
    "no_picture": 503,
    "store_full": 503,
    "store_unavailable": 503,
    "uninitialised": 503,
    "library": 503,
}

ADVICE: dict[str, str] = {
    "store_unavailable": "The lease store does not answer; your lease and place in line are kept there. Try again.",
    "uninitialised": "The lease store is empty until a worker registers again. Ask for new leases then.",
    "internal": "The broker failed; the operator finds the cause in its log, by this answer's x-request-id.",
}
"""Said to clients instead of the error's own words, which are for the operator."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Twin of ``schemas.api.Problem``."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retry_after_seconds: int | None = None


class Reply(msgspec.Struct, frozen=True):
    """An HTTP answer, ready to send."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


def reply_of(error: HotseatError) -> Reply:
    """The problem document of an error of ours. One that nobody foresaw is told to the log, as its document says."""
    if error.code == "internal":
        log.error("store_failed", extra={"detail": str(error)})
    return problem(
        status_of(error),
        error.code,
        ADVICE.get(error.code) or str(error) or error.code,
        retry_after_s=retry_after(error),
    )


def status_of(error: HotseatError) -> int:
    """Its HTTP status; a code nobody listed is judged by its group."""
    if (status := STATUS.get(error.code)) is not None:
        return status
    groups: tuple[tuple[type[HotseatError], int], ...] = (
        (RequestError, 400),
        (ConflictError, 409),
        (CapacityError, 503),
    )
    return next((status for group, status in groups if isinstance(error, group)), 500)


def retry_after(error: HotseatError) -> int | None:
    """Whole seconds; None where asking again would not help."""
    if isinstance(error, CapacityError):
        return error.retry_after_s
    return RETRY_AFTER_S if isinstance(error, BackendError) and status_of(error) != 500 else None


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    retry_after_s: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Make a problem document."""
    body = msgspec.json.encode(
        Problem(
            type=f"urn:hotseat:problem:{code}",
            title=HTTPStatus(status).phrase,
            status=status,
            code=code,
            detail=detail,
            retry_after_seconds=retry_after_s,
        )
    )
    fields = [(b"content-type", JSON), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    if retry_after_s is not None:
        fields.append((b"retry-after", b"%d" % retry_after_s))
    if status == 401:
        fields.append((b"www-authenticate", b'Bearer realm="hotseat"'))
    fields += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Reply(status, body, fields)


HTTP_CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 406: "not_acceptable"}

HTTP_DETAILS = {
    404: "There is nothing at this address; GET /openapi.json lists what there is, beside /v1.",
    405: "This address does not answer to this method; see the Allow header.",
}


def internal(error: BaseException, scope: Scope) -> Reply:
    """What the client hears of a bug; the log has the rest."""
    told = {"error": type(error).__name__, "request_id": scope["extensions"][REQUEST]["id"]}
    log.error("request_failed", extra=told, exc_info=error)
    return problem(500, "internal", ADVICE["internal"])

"""RFC 9457 problem documents: errors as all addresses but ``/v1`` tell them."""

import logging
from collections.abc import Mapping

import msgspec
from starlette.types import Scope

from broker.core.errors import HotseatError
from broker.protocol.client_side import REQUEST
from broker.protocol.error_bodies import told_when, words_of_error
from broker.protocol.error_page import ERRORS, problem_type, title_of

log = logging.getLogger("hotseat.api")

JSON = b"application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Twin of ``schemas.http.api.Problem``."""

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
    return problem(error.code, words_of_error(error), retry_after_s=error.retry_after_s)


def problem(
    code: str,
    detail: str,
    *,
    retry_after_s: int | None = None,
    quoted_status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Make a problem document.

    Args:
        code: One of the error page.
        detail: What to do about it.
        retry_after_s: None: as the page has it.
        quoted_status: Of whoever is quoted, for a code that quotes one.
        headers: Further ones.
    """
    row = ERRORS[code]
    status = quoted_status if row.is_quoted and quoted_status is not None else row.status
    after_s = row.after_s if retry_after_s is None else retry_after_s
    body = msgspec.json.encode(
        Problem(
            type=problem_type(code),
            title=title_of(status),
            status=status,
            code=code,
            detail=told_when(detail, after_s),
            retry_after_seconds=after_s,
        )
    )
    fields = [(b"content-type", JSON), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    if after_s is not None:
        fields.append((b"retry-after", b"%d" % after_s))
    if status == 401:
        fields.append((b"www-authenticate", b'Bearer realm="hotseat"'))
    fields += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Reply(status, body, fields)


HTTP_CODES = {
    row.status: code
    for code, row in ERRORS.items()
    if code in {"malformed", "not_found", "method_not_allowed", "not_acceptable"}
}
"""What the framework refuses by itself; anything else is an ``http_error``."""

HTTP_DETAILS = {
    404: "There is nothing at this address; GET /openapi.json lists what there is, beside /v1.",
    405: "This address does not answer to this method; see the Allow header.",
}


def internal(error: BaseException, scope: Scope) -> Reply:
    """What the client hears of a bug; the log has the rest."""
    told = {"error": type(error).__name__, "request_id": scope["extensions"][REQUEST]["id"]}
    log.error("request_failed", extra=told, exc_info=error)
    return problem("internal", ERRORS["internal"].advice)

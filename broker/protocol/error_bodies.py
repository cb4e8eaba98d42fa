"""What a client is told when it gets no answer of the model, in its own protocol: as a body, or as a last event."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from broker.core.errors import HotseatError
from broker.protocol.endpoints import ApiEndpoint, Dialect, EventShape
from broker.protocol.error_page import ERRORS, ErrorRow, type_of

LISTED = "GET /v1/models lists what there is"
"""What to do about a wrong name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientError:
    """An error as a client may see it; the optional fields are left out where they say nothing."""

    code: str
    """One of the error page."""
    message: str
    retry_after_s: int | None = None
    """None: as the page has it."""
    quoted_status: int | None = None
    """Of the server that is quoted, for a code that quotes one."""
    lease_id: str | None = None
    position: int | None = None
    eta_s: float | None = None
    more: Mapping[str, object] = field(default_factory=dict)
    """Further fields, by name."""

    @property
    def row(self) -> ErrorRow:
        """What the page says."""
        return ERRORS[self.code]

    @property
    def status(self) -> int:
        """Below ``/v1``, where both dialects have the same."""
        row = self.row
        quoted = self.quoted_status if row.is_quoted else None
        return row.status_in(Dialect.OPENAI) if quoted is None else quoted

    @property
    def told_code(self) -> str:
        """Its code as clients of ``/v1`` know it."""
        return self.row.v1_code or self.code

    @property
    def after_s(self) -> int | None:
        """When to ask again, seconds; None: that alone does not help."""
        return self.row.after_s if self.retry_after_s is None else self.retry_after_s

    def headers(self) -> list[tuple[bytes, bytes]]:
        """When to ask again, and whether to."""
        fields = [] if self.after_s is None else [(b"retry-after", b"%d" % self.after_s)]
        return [*fields, (b"x-should-retry", b"false")] if self.row.is_lasting else fields

    def told_message(self) -> str:
        """With the seconds after which to ask again."""
        return told_when(self.message, self.after_s)

    def detail(self) -> dict[str, object]:
        """The fields of our own."""
        after = {} if self.after_s is None else {"retry_after_s": self.after_s}
        if self.lease_id is None:
            return {**after, **self.more}
        return {"lease_id": self.lease_id, "position": self.position, "eta_s": self.eta_s, **after, **self.more}


class ClientFacingError(Exception):
    """Raised where an exchange ends without the model's answer."""

    def __init__(self, trouble: ClientError) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def client_error_of(error: HotseatError) -> ClientError:
    """How an error of ours is told."""
    message = words_of_error(error)
    if error.code == "unknown_model":
        message = f"{message}; {LISTED}"
    return ClientError(code=error.code, message=message, retry_after_s=error.retry_after_s)


def words_of_error(error: HotseatError) -> str:
    """What a client is told of an error of ours: its own words, unless they are for the operator."""
    return ERRORS[error.code].advice or str(error) or error.code


def body_of(trouble: ClientError, dialect: Dialect) -> bytes:
    """The error as a JSON body."""
    return msgspec.json.encode(_envelope(trouble, dialect))


def last_event(trouble: ClientError, endpoint: ApiEndpoint) -> bytes:
    """The error as the event that ends a stream which has begun; both official SDKs raise it as an API error."""
    envelope = _envelope(trouble, endpoint.dialect)
    name = b""
    if endpoint.shape is EventShape.MESSAGES:
        name = b"event: error\n"
    elif endpoint.shape is EventShape.RESPONSES:
        name = b"event: error\n"
        message = trouble.told_message()
        typed = {"type": "error", "code": trouble.told_code, "message": message, "param": None, "sequence_number": 0}
        envelope = typed | envelope
    return name + b"data: " + msgspec.json.encode(envelope) + b"\n\n"


def told_when(message: str, after_s: int | None) -> str:
    """The message, with the seconds after which to ask again: many programs show nothing else."""
    if after_s is None or "ask again in" in message:
        return message
    return f"{message.removesuffix('; ask again').removesuffix('; try again')}; ask again in {after_s} s"


def _envelope(trouble: ClientError, dialect: Dialect) -> dict[str, object]:
    message = trouble.told_message()
    kind = type_of(trouble.status, dialect)
    if dialect is Dialect.ANTHROPIC:
        of_anthropic: dict[str, object] = {"type": kind, "message": message, "code": trouble.told_code}
        return {"type": "error", "error": of_anthropic | trouble.detail()}
    error: dict[str, object] = {"message": message, "type": kind, "param": None, "code": trouble.told_code}
    return {"error": error | trouble.detail()}

"""The hot paths' bodies as msgspec structs (twins of ``schemas/http/api.py``), and records turned into them."""

import hashlib
import json
import math
import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from broker.answers.reading import fault_of, without_mark
from broker.core.lease import (
    Intent,
    LeaseId,
    LeaseRecord,
    LeaseState,
    ModelName,
    Nonce,
    Priority,
    priority_of,
)
from broker.leasing.service import Reference, Wish
from broker.protocol.errors import InvalidError, MalformedError

_LABEL = r"^[^\u0000-\u001f\u007f-\u009f{}\u2028\u2029]+\Z"
SessionKey = Annotated[str, Meta(pattern=_LABEL, min_length=1, max_length=256)]
Holder = Annotated[str, Meta(pattern=_LABEL, min_length=1, max_length=128)]
_REMARK = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]+\Z"
Remark = Annotated[str, Meta(pattern=_REMARK, min_length=1, max_length=128)]
Model = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}\Z")]
LeaseIdentity = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
Secret = Annotated[str, Meta(pattern=r"^[\x21-\x7e]+\Z", min_length=1, max_length=128)]
Ttl = Annotated[float, Meta(ge=1, le=86_400)]
Expected = Annotated[float, Meta(gt=0, le=86_400)]
Wait = Annotated[float, Meta(ge=0, le=300)]
PriorityNumber = Annotated[float, Meta(ge=-5, le=5)]  # JSON has one kind of number: 2.0 is the integer 2
PriorityName = Literal["interactive", "normal", "background", "batch"]
IntentName = Literal["use", "warm"]


_INTENTS = {intent.value: intent for intent in Intent}
_PRIORITIES = {priority.value: priority for priority in Priority}
# Looking a word up in a dictionary takes a tenth of calling the enumeration.


class LeaseRequest(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /lease``."""

    session_key: SessionKey
    model: Model
    ttl_seconds: Ttl | None = None
    intent: IntentName = "use"
    priority: PriorityName | PriorityNumber = "normal"
    wait: Wait = 0
    holder: Holder | None = None
    expected_seconds: Expected | None = None
    cancel_on_disconnect: bool = False
    only_if_warm: bool = False
    single_request: bool = False
    label: Remark | None = None

    def wish(self) -> Wish:
        """Return what is asked for, without how the answer is to be delivered.

        Raises:
            InvalidError: The priority is a number with a fraction.
        """
        named = self.priority
        if not isinstance(named, str) and not named.is_integer():
            raise InvalidError("priority must be a class or an integer from -5 to 5")
        return Wish(
            session=self.session_key,
            model=ModelName(self.model),
            intent=_INTENTS[self.intent],
            priority=_PRIORITIES[named] if isinstance(named, str) else priority_of(int(named)),
            holder=self.holder or "",
            ttl_s=self.ttl_seconds,
            expected_s=self.expected_seconds,
            single=self.single_request,
            only_warm=self.only_if_warm,
            label=self.label or "",
        )


_TWO_WAYS = "name the lease either by leaseId and nonce, or by sessionKey and model (with intent and holder)"


class LeaseReference(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The part that ``/renew`` and ``/release`` share."""

    lease_id: LeaseIdentity | UnsetType = UNSET
    nonce: Secret | UnsetType = UNSET
    session_key: SessionKey | UnsetType = UNSET
    model: Model | UnsetType = UNSET
    intent: IntentName | UnsetType = UNSET
    holder: Holder | UnsetType | None = UNSET

    def reference(self) -> Reference:
        """Return which lease is meant.

        Raises:
            InvalidError: Neither of the two ways to name it, or parts of both.
        """
        if self.lease_id is not UNSET and self.nonce is not UNSET:
            if any(given is not UNSET for given in (self.session_key, self.model, self.intent, self.holder)):
                raise InvalidError(_TWO_WAYS)
            return Reference(lease_id=LeaseId(self.lease_id), nonce=Nonce(self.nonce))
        if self.session_key is UNSET or self.model is UNSET or self.lease_id is not UNSET or self.nonce is not UNSET:
            raise InvalidError(_TWO_WAYS)
        return Reference(
            session=self.session_key,
            model=ModelName(self.model),
            intent=Intent.USE if self.intent is UNSET else _INTENTS[self.intent],
            holder="" if self.holder is UNSET else self.holder or "",
        )


class RenewRequest(LeaseReference, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /renew``."""

    ttl_seconds: Ttl | None = None


class ReleaseRequest(LeaseReference, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /release``."""


class Endpoint(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where to call the model."""

    base_url: str
    api_key: str


class LoadFailure(Struct, frozen=True, kw_only=True, rename="camel"):
    """How the last load of a ticket's model failed."""

    error: str
    fails: int
    retry_in_seconds: float | UnsetType = UNSET


class Lease(Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer of every lease call; unset fields are left out."""

    lease_id: str
    nonce: str | UnsetType = UNSET
    session_key: str
    label: str | UnsetType = UNSET
    model: str
    intent: str
    state: str
    reason: str | UnsetType = UNSET
    position: int | UnsetType = UNSET
    eta_seconds: float | UnsetType = UNSET
    eta_low_seconds: float | UnsetType = UNSET
    eta_high_seconds: float | UnsetType = UNSET
    wait_reason: str | UnsetType = UNSET
    load_failure: LoadFailure | UnsetType = UNSET
    expires_in_seconds: float | UnsetType = UNSET
    endpoint: Endpoint | UnsetType = UNSET


class Outlook(Struct, frozen=True):
    """When a ticket may be served; None: unknown, ``wait_reason`` says what it hangs on."""

    eta_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    wait_reason: str | None = None


NO_OUTLOOK = Outlook()


def lease_view(record: LeaseRecord, outlook: Outlook, *, secrets: bool) -> Lease:
    """Turn a record into what its owner (``secrets``) or an observer may see of it."""
    queued = record.state is LeaseState.QUEUED
    return Lease(
        lease_id=record.lease_id,
        nonce=record.nonce if secrets else UNSET,
        session_key=record.session,
        label=record.label or UNSET,
        model=record.model,
        intent=record.intent.value,
        state=record.state.value,
        reason=record.reason or UNSET,
        position=record.position if queued else UNSET,
        eta_seconds=_rounded(outlook.eta_s) if queued else UNSET,
        eta_low_seconds=_rounded(outlook.low_s) if queued else UNSET,
        eta_high_seconds=_rounded(outlook.high_s) if queued else UNSET,
        wait_reason=(outlook.wait_reason or UNSET) if queued else UNSET,
        load_failure=_load_failure(record),
        expires_in_seconds=UNSET if record.state is LeaseState.ENDED else round(max(0.0, record.expires_in_s), 3),
        endpoint=(Endpoint(base_url=record.base_url, api_key=record.api_key) if secrets and record.base_url else UNSET),
    )


def _load_failure(record: LeaseRecord) -> LoadFailure | UnsetType:
    if not record.load_error:
        return UNSET
    again_s = round(record.retry_in_s, 1) if record.retry_in_s > 0 else UNSET
    return LoadFailure(error=record.load_error, fails=record.load_tries, retry_in_seconds=again_s)


def _rounded(seconds: float | None) -> float | UnsetType:
    return UNSET if seconds is None or not math.isfinite(seconds) else round(max(0.0, seconds), 1)


B = TypeVar("B", bound=Struct)

encode = msgspec.json.Encoder().encode
_names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NAME_ENDS = re.compile(rb'"\s*:')
"""In a flat object every name ends so; inside a string value it can occur too, so a count is a bound from above."""
_pairs = json.JSONDecoder(object_pairs_hook=list).decode


def body_decoder(kind: type[B]) -> msgspec.json.Decoder[B]:
    """Make a decoder of one kind of body, to be used for every request."""
    return msgspec.json.Decoder(kind)


def decode(decoder: msgspec.json.Decoder[B], body: bytes) -> B:
    """Read a body strictly.

    Raises:
        MalformedError: Not JSON, or a name twice.
        InvalidError: JSON of another shape; the message names the field.
    """
    body = without_mark(body)
    try:
        value = decoder.decode(body)
        # All fields are scalars, so the object is flat here.
        unique = len(_NAME_ENDS.findall(body)) == len(_names(body)) or _has_unique_names(body)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{error}; see GET /openapi.json for the shape") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedError(f"the body is not JSON we can read: {fault_of(body, error)}") from None
    if not unique:
        raise MalformedError("the body names a field twice; send each once")
    return value


def _has_unique_names(body: bytes) -> bool:
    pairs: list[tuple[str, Any]] = _pairs(body.decode())
    return len({name for name, _ in pairs}) == len(pairs)


def body_hash(request: LeaseRequest) -> str:
    """Return what an idempotency key stands for: a hash of the request without how its answer is delivered."""
    bare = msgspec.structs.replace(request, wait=0, cancel_on_disconnect=False)
    return hashlib.sha256(encode(bare)).hexdigest()[:32]

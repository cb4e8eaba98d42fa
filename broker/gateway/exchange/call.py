"""One request: as it came, and as it is read before anything is done about it: whose it is, and what it asks for."""

import time
from collections.abc import Mapping

import msgspec

from broker.access.principals import Principal
from broker.core.errors import BadArgumentError
from broker.core.lease import Priority
from broker.gateway.exchange.settings import GatewaySettings
from broker.gateway.requests.bearing import bears_s
from broker.gateway.requests.conversations import Sightings
from broker.gateway.requests.identity import Asked, Identity, asked_of, identify, priority_for
from broker.gateway.requests.patience import PatienceLimits, within
from broker.gateway.requests.return_keys import fingerprint
from broker.gateway.requests.spans import Spans
from broker.gateway.trust.testimony import RequestSource
from broker.protocol.endpoints import ApiEndpoint, EventShape
from broker.protocol.errors import MalformedError
from broker.protocol.profiles import Profile, profile_for

RETRY_HEADER = b"x-stainless-retry-count"
PROFILE_HEADER = b"x-hotseat-profile"
ONLY_WARM_HEADER = b"x-hotseat-only-if-warm"
_YES, _NO = frozenset({b"1", b"true", b"yes", b"on"}), frozenset({b"0", b"false", b"no", b"off"})


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came, whole."""

    caller: Principal
    endpoint: ApiEndpoint
    headers: Mapping[bytes, bytes]
    body: bytes
    at_s: float
    """Loop time."""
    target: str
    """Path below ``/v1``, with its query."""
    address: str = ""
    """The client's, without its port; empty: not known."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, read and judged."""

    caller: Principal
    endpoint: ApiEndpoint
    headers: Mapping[bytes, bytes]
    target: str
    """Path below ``/v1``, with its query."""
    body: bytes
    asked: Asked
    identity: Identity
    priority: Priority
    profile: Profile
    only_warm: bool = False
    """Is it served only while a model for it is loaded? Then it goes to no upstream either."""
    limits: PatienceLimits
    """Of its waiting: the configured ones, and within its own patience."""
    fingerprint: str
    started_s: float
    """Loop time."""
    created_s: int
    """Unix time."""

    @property
    def is_retry(self) -> bool:
        """Does the client say that it has asked this before? Both official SDKs do."""
        return self.headers.get(RETRY_HEADER, b"0").strip() != b"0"

    @property
    def source(self) -> RequestSource:
        """For whom what it sees of a model speaks: callers without a key are told apart by their sessions."""
        session = self.identity.session
        return RequestSource(party=self.caller.name if self.caller.has_key else session, session=session)

    @property
    def may_commit(self) -> bool:
        """May its answer begin before the model server's?"""
        return self.asked.stream and self.endpoint.shape is not EventShape.WHOLE and self.profile is not Profile.NONE


def call_of(came: Came, settings: GatewaySettings, spans: Spans, sightings: Sightings) -> Call:
    """Read it. Ids of conversations that it names are noted in ``sightings``.

    Raises:
        MalformedError, UnknownModelError, BadArgumentError
    """
    caller, endpoint, headers = came.caller, came.endpoint, came.headers
    content_type = headers.get(b"content-type", b"")
    asked = asked_of(came.body, content_type, settings.table.default, settings.table.entries)
    span = spans.session_of(headers.get(b"traceparent"), caller.owner, asked.model, came.at_s)
    found, asker = fingerprint(caller.name, endpoint.path, came.body, content_type), (caller.name, came.address)
    wanted = settings.profiles.get(caller.name) or _profile(headers.get(PROFILE_HEADER))
    return Call(
        caller=caller,
        endpoint=endpoint,
        headers=headers,
        target=came.target,
        body=came.body,
        asked=asked,
        identity=identify(headers, asked, asker, sightings, found, span),
        priority=priority_for(headers, caller.max_priority, settings.priorities.get(caller.name)),
        profile=profile_for(endpoint, wanted, headers),
        only_warm=_only_warm(headers, usual=caller.name in settings.only_if_warm),
        limits=within(settings.limits, bears_s(headers, settings.limits.longest_silent_s)),
        fingerprint=found,
        started_s=came.at_s,
        created_s=int(time.time()),
    )


def _profile(word: bytes | None) -> Profile | None:
    try:
        return None if word is None else Profile(word.decode("latin-1").strip().lower())
    except ValueError:
        raise MalformedError(f"x-hotseat-profile must be one of {', '.join(Profile)}") from None


def _only_warm(headers: Mapping[bytes, bytes], *, usual: bool) -> bool:
    """Is it served only while its model is warm? The header's word, else the API key's.

    Raises:
        BadArgumentError: Neither yes nor no.
    """
    word = headers.get(ONLY_WARM_HEADER, b"").strip().lower()
    if not word:
        return usual
    if word not in _YES | _NO:
        raise BadArgumentError("x-hotseat-only-if-warm must be true or false")
    return word in _YES

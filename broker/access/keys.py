"""API keys: who calls, checked in constant time against hashes; a bucket of requests for each."""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from starlette.types import Scope as Request

from broker.access.principals import NotAllowedError, Principal, Scope
from broker.protocol.client_side import REQUEST
from broker.protocol.errors import RateLimitedError, UnauthorisedError
from broker.protocol.limits import header

KEY_PREFIX = "hsk_"
KEY_BYTES = 32
MAX_HEADER = 512
"""Longest ``Authorization`` value looked at."""
_OURS = re.compile(rb"hsk_[A-Za-z0-9_-]{20}")
"""Shaped like one of our keys (``hsk_...`` of a page is not)."""
_WHERE = "Authorization: Bearer hsk_..., or x-api-key: hsk_..."


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One API key of the configuration. Only its hash is stored; the key itself is never known here."""

    principal: Principal
    sha256: str
    """SHA-256 of the key, in lower-case hexadecimal."""
    rate_per_s: float = 0.0
    """Requests per second in the long run; 0: no limit."""


def new_key() -> tuple[str, str]:
    """Make a key.

    Returns:
        The key, to be shown once, and its hash.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return key, digest(key)


def digest(key: str) -> str:
    """A plain SHA-256 is enough: keys are 256 random bits, not passwords."""
    return hashlib.sha256(key.encode()).hexdigest()


class Bucket:
    """A token bucket: ``rate_per_s`` in the long run, two seconds' worth at once."""

    __slots__ = ("_burst", "_filled_s", "_rate", "_tokens")

    def __init__(self, rate_per_s: float, now_s: float) -> None:
        self._rate = rate_per_s
        self._burst = max(1.0, 2 * rate_per_s)
        self._tokens = self._burst
        self._filled_s = now_s

    def take(self, now_s: float) -> float:
        """Take one.

        Returns:
            0, or seconds until there is one.
        """
        self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) * self._rate)
        self._filled_s = now_s
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


def credential_of(request: Request) -> bytes | None:
    """What a request gives for a key, as a value of ``Authorization``; None: nothing, or a field that was left empty.

    OpenAI's clients send ``Authorization``, Anthropic's ``x-api-key``; of both the one that can be a key of ours.

    Raises:
        InvalidError: One of them is sent twice.
    """
    authorization = _filled(header(request, b"authorization") or b"")
    key = (header(request, b"x-api-key") or b"").strip()
    if key and (authorization is None or (_OURS.search(key) and not _OURS.search(authorization))):
        return b"Bearer " + key
    return authorization


def _filled(authorization: bytes) -> bytes | None:
    text = authorization.strip()
    return None if text.lower() in {b"", b"bearer"} else text


class Authenticator:
    """Knows the keys.

    Args:
        anonymous: Who calls without a key; None: nobody may.
        page: Who a web page of another origin is without one, where others may.
    """

    def __init__(
        self,
        keys: Iterable[ApiKey],
        *,
        anonymous: Principal | None,
        clock: Callable[[], float],
        page: Principal | None = None,
    ) -> None:
        self._keys = {key.sha256: key for key in keys}
        self._anonymous = anonymous
        self._page = page
        self._clock = clock
        self._buckets = {
            key.principal.name: Bucket(key.rate_per_s, clock()) for key in self._keys.values() if key.rate_per_s > 0
        }

    def named(self, name: str) -> Principal | None:
        """A key's owner by its name; None: there is no such key."""
        return next((key.principal for key in self._keys.values() if key.principal.name == name), None)

    def caller(self, request: Request) -> Principal:
        """Who calls; counts against the key's rate.

        Raises:
            UnauthorisedError: No key, or an unknown one.
            RateLimitedError: Too many requests.
        """
        caller = self.identify(credential_of(request))
        if caller is self._anonymous and request["extensions"][REQUEST]["is_page"]:
            return self._page or caller
        return caller

    def caller_with(self, request: Request, scope: Scope) -> Principal:
        """Who calls, with the right to do so.

        Args:
            request: Its headers are looked at.
            scope: What the call needs.

        Raises:
            NotAllowedError: The key lacks the scope.
            UnauthorisedError, RateLimitedError
        """
        caller = self.caller(request)
        if not caller.may(scope):
            who = "a web page without an API key" if caller is self._page else f"key {caller.name!r}"
            raise NotAllowedError(f"{who} lacks the scope {scope.value!r}")
        return caller

    def identify(self, authorization: bytes | None) -> Principal:
        """Who gives this for a key.

        Where callers need no key, what is not shaped like one of ours is none: many clients must have a key and are
        given any text, or send what a proxy or a browser made up. A key of ours that is mistyped may have been a
        private one.

        Raises:
            UnauthorisedError, RateLimitedError
        """
        key = None if authorization is None else self._known(authorization)
        if key is not None:
            self._spend(key.principal.name)
            return key.principal
        if self._anonymous is not None and (authorization is None or not _may_be_ours(authorization)):
            return self._anonymous
        if authorization is None:
            raise UnauthorisedError(f"send an API key: {_WHERE}; hotseat key new makes one")
        raise UnauthorisedError(f"the API key is not known here; check it, and how it is sent: {_WHERE}")

    def _known(self, authorization: bytes) -> ApiKey | None:
        scheme, _, token = authorization[:MAX_HEADER].partition(b" ")
        found = hashlib.sha256(token.strip()).hexdigest()
        # The dictionary is keyed by a hash of the secret: its timing tells nothing one could climb on.
        key = self._keys.get(found)
        if scheme.lower() != b"bearer" or key is None or not hmac.compare_digest(key.sha256, found):
            return None
        return key

    def _spend(self, name: str) -> None:
        bucket = self._buckets.get(name)
        if bucket is None or (wait_s := bucket.take(self._clock())) <= 0:
            return
        raise RateLimitedError(name, max(1, round(wait_s + 0.5)))


def _may_be_ours(authorization: bytes) -> bool:
    """Was it meant to be one of our keys, under whatever scheme?"""
    if _OURS.search(authorization):
        return True
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return False
    try:
        return bool(_OURS.search(base64.b64decode(token.strip())))
    except binascii.Error:
        return False

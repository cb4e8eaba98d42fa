"""API keys: who calls, checked in constant time against hashes; a bucket of requests for each."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from broker.api.problems import RateLimitedError, UnauthorisedError
from broker.principals import NotAllowedError, Principal, Scope

KEY_PREFIX = "hsk_"
KEY_BYTES = 32
MAX_HEADER = 512
"""Longest ``Authorization`` value looked at."""
_ANY_TEXT = re.compile(rb"bearer +(?!hsk_[A-Za-z0-9_-]{20})[^ ]", re.IGNORECASE)
"""A bearer token that is not shaped like one of our keys (``hsk_...`` of a page is not)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One configured key."""

    principal: Principal
    sha256: str
    """Of the key, hexadecimal, lower case."""
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


class Authenticator:
    """Knows the keys."""

    def __init__(self, keys: Iterable[ApiKey], *, anonymous: Principal | None, clock: Callable[[], float]) -> None:
        self._keys = {key.sha256: key for key in keys}
        self._anonymous = anonymous
        self._clock = clock
        self._buckets = {
            key.principal.name: Bucket(key.rate_per_s, clock()) for key in self._keys.values() if key.rate_per_s > 0
        }

    def principal(self, authorization: bytes | None, scope: Scope) -> Principal:
        """Who calls, with the right to do so.

        Args:
            authorization: The header's value.
            scope: What the call needs.

        Raises:
            UnauthorisedError: No key, or an unknown one.
            NotAllowedError: The key lacks the scope.
            RateLimitedError: Too many requests.
        """
        caller = self.identify(authorization)
        if not caller.may(scope):
            raise NotAllowedError(f"key {caller.name!r} lacks the scope {scope.value!r}")
        return caller

    def identify(self, authorization: bytes | None) -> Principal:
        """Who calls; counts against the key's rate.

        Where callers need no key, a token that is not shaped like one of ours is none: OpenAI's SDK and others must
        have a key and are given any text. A key of ours that is mistyped may have been a private one.

        Raises:
            UnauthorisedError, RateLimitedError
        """
        if authorization is None:
            if self._anonymous is None:
                raise UnauthorisedError("send an API key: Authorization: Bearer hsk_...; hotseat key new makes one")
            return self._anonymous
        try:
            key = self._known(authorization)
        except UnauthorisedError:
            if self._anonymous is None or len(authorization) > MAX_HEADER or not _ANY_TEXT.match(authorization):
                raise
            return self._anonymous
        self._spend(key.principal.name)
        return key.principal

    def _known(self, authorization: bytes) -> ApiKey:
        scheme, _, token = authorization[:MAX_HEADER].partition(b" ")
        found = hashlib.sha256(token.strip()).hexdigest()
        # The dictionary is keyed by a hash of the secret: its timing tells nothing one could climb on.
        key = self._keys.get(found)
        if scheme.lower() != b"bearer" or key is None or not hmac.compare_digest(key.sha256, found):
            raise UnauthorisedError("the API key is not known here; check the Authorization header")
        return key

    def _spend(self, name: str) -> None:
        bucket = self._buckets.get(name)
        if bucket is None or (wait_s := bucket.take(self._clock())) <= 0:
            return
        error = RateLimitedError(f"key {name!r} sends too many requests; wait as Retry-After says")
        error.retry_after_s = max(1, round(wait_s + 0.5))
        raise error

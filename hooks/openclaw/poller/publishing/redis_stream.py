"""Publishes with ``XADD`` to the pool's ingress stream; the store's user may do nothing else.

Rule: messages carry no ``seq``. That number belongs to whoever reports a session's events in order (the plugin); a
statement of how things are, repeated every period, must not make one of the plugin's messages count as late.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from hooks.openclaw.poller.activity import Warm
from hooks.openclaw.poller.publishing.port import PublishError, RefusedError
from schemas.messages import base_key

MAX_LENGTH = 10_000
"""How many entries the stream may hold while every broker is away; the oldest go first."""
BATCH = 500
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """Where the store is and who we are to it."""

    url: str
    pool: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)


class RedisPublisher:
    """Publishes to the ingress stream of one pool."""

    def __init__(self, address: StoreAddress, *, publisher: str, ttl_s: float, priority: str) -> None:
        self._stream = f"{base_key(address.pool)}:ingress"
        self._common = {"publisher": publisher}
        self._renewal = {"type": "activity", "ttlSeconds": f"{ttl_s:g}", "priority": priority, "intent": "warm"}
        self._client = redis.Redis.from_url(
            address.url,
            username=address.username,
            password=address.password,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,  # CLIENT SETINFO and CLIENT MAINT_NOTIFICATIONS are not in the poller's ACL
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )

    def renew(self, leases: tuple[Warm, ...]) -> Iterator[Warm]:
        """Add one entry for each to the stream, in batches of one round trip."""
        return self._publish(leases, self._renewal)

    def release(self, leases: tuple[Warm, ...]) -> Iterator[Warm]:
        """Add one entry for each to the stream, in batches of one round trip."""
        return self._publish(leases, {"type": "release", "intent": "warm"})

    def refused(self) -> Mapping[str, str]:
        """Return nothing: nobody answers on a stream."""
        return {}

    def close(self) -> None:
        """Drop the connection to the store."""
        self._client.close()

    def _publish(self, leases: Sequence[Warm], words: dict[str, str]) -> Iterator[Warm]:
        for start in range(0, len(leases), BATCH):
            batch = leases[start : start + BATCH]
            self._send(batch, words)
            yield from batch

    def _send(self, batch: Sequence[Warm], words: dict[str, str]) -> None:
        pipe = self._client.pipeline(transaction=False)
        for warm in batch:
            fields: Any = {**words, **self._common, "sessionKey": warm.session, "model": warm.model}
            pipe.xadd(self._stream, fields, maxlen=MAX_LENGTH, approximate=True)
        try:
            pipe.execute()
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise RefusedError(f"the store refuses us: {error}") from error
        except (RedisError, OSError) as error:
            raise PublishError(f"the store does not take it: {error}") from error

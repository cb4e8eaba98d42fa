"""Publishes with the broker's lease calls.

Rule: never shorten. ``POST /lease`` answers with the session's lease on this model if it has one, whoever asked for it
under this API key; it is renewed only when less than a TTL is left: ``/gpu warm 20m`` beside us keeps its 20 minutes.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from hooks.openclaw.poller.activity import Warm
from hooks.openclaw.poller.publishing.port import PublishError, RefusedError

log = logging.getLogger("hotseat.poller")

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_UNAUTHORISED = frozenset({401, 403})
_ENDED_BETWEEN = frozenset({404, 409, 410})


class HttpPublisher:
    """Publishes to one broker, over HTTP."""

    def __init__(self, url: str, api_key: str, *, ttl_s: float, priority: str) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._url = url
        self._ttl_s = ttl_s
        self._priority = priority
        self._said: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False)

    def renew(self, leases: tuple[Warm, ...]) -> Iterator[Warm]:
        """Keep these warm; it takes two calls for each at most."""
        self._refused = {}
        for warm in leases:
            if self._renew(warm):
                yield warm

    def release(self, leases: tuple[Warm, ...]) -> Iterator[Warm]:
        """Give these back, with one call for each."""
        for warm in leases:
            self._post("/release", {"sessionKey": warm.session, "model": warm.model, "intent": "warm"})
            yield warm

    def refused(self) -> Mapping[str, str]:
        """Return the models that the broker refused to keep warm: it has none such, or not for this key."""
        return self._refused

    def close(self) -> None:
        """Drop the connections to the broker."""
        self._http.close()

    def _renew(self, warm: Warm) -> bool:
        name = {"sessionKey": warm.session, "model": warm.model, "intent": "warm"}
        answer = self._post("/lease", {**name, "ttlSeconds": self._ttl_s, "priority": self._priority})
        if answer.status_code == 409:  # another API key keeps it warm already
            return True
        if answer.is_error:  # this model, class or TTL is not for us; the others still are
            self._complain(warm.model, _detail(answer))
            return True
        lease = answer.json()
        if lease.get("expiresInSeconds", 0.0) >= self._ttl_s * 0.9:
            return True
        renewal = {"leaseId": lease["leaseId"], "nonce": lease["nonce"], "ttlSeconds": self._ttl_s}
        return self._post("/renew", renewal).status_code not in _ENDED_BETWEEN

    def _complain(self, model: str, why: str) -> None:
        """Say once per model and reason that it cannot be kept warm."""
        self._refused[model] = why
        if self._said.get(model) != why:
            self._said[model] = why
            log.warning("model_refused", extra={"model": model, "why": why})

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        try:
            answer = self._http.post(path, json=body)
        except httpx.TransportError as error:
            raise PublishError(
                f"no answer from the broker at {self._url}: {str(error) or type(error).__name__}"
            ) from error
        if answer.status_code in _UNAUTHORISED:
            raise RefusedError(f"the broker refuses us: {_detail(answer)}")
        if answer.status_code == 429 or answer.status_code >= 500:
            raise PublishError(f"the broker cannot take it now: {_detail(answer)}")
        return answer


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"

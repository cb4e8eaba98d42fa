"""The few HTTP calls of an agent: ask for a lease, follow it through the queue, use the model, give the lease back.

Written to be read by somebody who writes an agent of their own: it is the whole protocol, and it forgives everything
that may happen to a broker, a worker or a model server on the way.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

TTL_S = 60.0
RETRY_S = 1.0
AGENT_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class TurnLostError(Exception):
    """The lease ended before its holder gave it back; ask for a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What is known of a lease at one moment.

    Attributes:
        state: queued, active, ending or ended.
        reason: Why it is ending or ended.
        position: 1 is next of its model.
        eta_s: Expected seconds until the grant, with a low and a high guess; None when unknown.
        wait_reason: What the wait hangs on.
        residency: How deep the model is on its slot: absent, loading, ready or unloading.
        progress: How far its load has come, percent.
    """

    state: str
    reason: str = ""
    position: int | None = None
    eta_s: tuple[float, float, float] | None = None
    wait_reason: str = ""
    residency: str = ""
    progress: int = 0

    @classmethod
    def of(cls, lease: dict[str, Any], *, residency: str = "", progress: int = 0) -> Update:
        """Read a lease as the broker tells of it in JSON."""
        eta = lease.get("etaSeconds")
        return cls(
            state=lease["state"],
            reason=lease.get("reason", ""),
            position=lease.get("position"),
            eta_s=None if eta is None else (eta, lease.get("etaLowSeconds", eta), lease.get("etaHighSeconds", eta)),
            wait_reason=lease.get("waitReason", ""),
            residency=residency,
            progress=progress,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAddress:
    """Where the model can be called while the lease lasts; `base_url` ends in `/v1`."""

    base_url: str
    api_key: str


class LeaseClient:
    """Asks for leases in the name of one session.

    Args:
        http: Its base URL is the broker's.
        session_key: The conversation the leases are for.
    """

    def __init__(self, http: httpx.AsyncClient, *, session_key: str) -> None:
        self._http = http
        self._session_key = session_key

    async def ask(self, model: str) -> dict[str, Any]:
        """Ask for a lease and return it, queued or active. Asks again until a broker answers.

        The idempotency key makes that safe: a broker that died after it granted answers with the same lease.

        Raises:
            httpx.HTTPStatusError: The broker refuses this request for good.
        """
        body = {"sessionKey": self._session_key, "model": model, "ttlSeconds": TTL_S}
        operation = uuid4().hex
        while True:
            try:
                answer = await self._http.post("/lease", json=body, headers={"Idempotency-Key": operation})
            except httpx.TransportError:
                await asyncio.sleep(RETRY_S)
                continue
            if answer.status_code in TRY_AGAIN:
                await asyncio.sleep(_retry_after_s(answer))
                continue
            answer.raise_for_status()
            return dict(answer.json())

    async def follow(self, lease_id: str) -> AsyncGenerator[tuple[Update, dict[str, Any]]]:
        """Yield each change of a lease until it has ended; connects again when the connection drops.

        Raises:
            TurnLostError: The broker does not know the lease any more.
        """
        while True:
            try:
                async with aclosing(self._events(lease_id)) as events:
                    async for data in events:
                        lease = data["lease"]
                        yield Update.of(lease, residency=data["residency"], progress=data["progress"]), lease
                        if lease["state"] == "ended":
                            return
            except httpx.TransportError:
                pass
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in TRY_AGAIN:
                    raise TurnLostError(f"the broker says {error.response.status_code}") from error
            await asyncio.sleep(RETRY_S)

    async def _events(self, lease_id: str) -> AsyncGenerator[dict[str, Any]]:
        async with self._http.stream("GET", f"/lease/{lease_id}/events") as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and "lease" in (data := json.loads(line[6:])):
                    yield data

    async def release(self, lease: dict[str, Any]) -> None:
        """Give a lease back, or leave the queue; safe to repeat, and nothing to worry about when it has ended."""
        body = {"leaseId": lease["leaseId"], "nonce": lease["nonce"]}
        while True:
            try:
                answer = await self._http.post("/release", json=body)
            except httpx.TransportError:
                await asyncio.sleep(RETRY_S)
                continue
            if answer.status_code not in TRY_AGAIN:
                return
            await asyncio.sleep(_retry_after_s(answer))


async def complete(endpoint: ModelAddress, *, model: str, prompt: str, max_tokens: int) -> AsyncGenerator[str]:
    """Yield a completion from the model server itself, piece by piece.

    Raises:
        TurnLostError: The server does not know our key any more, or is gone.
    """
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0.7, "stream": True}
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    try:
        async with (
            httpx.AsyncClient(timeout=AGENT_TIMEOUT) as http,
            http.stream("POST", f"{endpoint.base_url}/completions", json=body, headers=headers) as answer,
        ):
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    yield str(json.loads(line[6:])["choices"][0]["text"])
    except (httpx.TransportError, httpx.HTTPStatusError) as error:
        raise TurnLostError(f"the model server is gone: {type(error).__name__}") from error


def endpoint_of(lease: dict[str, Any]) -> ModelAddress:
    """Read an active lease's endpoint."""
    return ModelAddress(base_url=lease["endpoint"]["baseUrl"], api_key=lease["endpoint"]["apiKey"])


def _retry_after_s(answer: httpx.Response) -> float:
    try:
        return max(RETRY_S, float(answer.headers.get("Retry-After", RETRY_S)))
    except ValueError:
        return RETRY_S

"""What an agent can ask of the broker through MCP, and errors it can act on. Knows HTTP; nothing of MCP itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import anyio
import httpx

from schemas.residency import Residency

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Waiting = Callable[[str], Awaitable[None]]

POLL_S = 5.0
"""How often somebody who waits hears of it, seconds; far below the broker's patience with a silent waiter (60 s)."""
LEAVES = "cancelOnDisconnect=true"
"""Makes a ticket end with its connection: this process may be killed while it waits, and then nobody waits any more."""
COMPLETION_TTL_S = 60.0
RELEASE_S = 5.0
TOOL_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
MODEL_TIMEOUT = httpx.Timeout(600.0, connect=5.0)

_Body = dict[str, Any]


class BrokerToolError(Exception):
    """It cannot be done; the message tells the agent what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What ``complete`` sends to the model."""

    text: str
    system: str = ""
    max_tokens: int = 512
    temperature: float | None = None

    def body(self, model: str) -> _Body:
        """Return it as the body of a chat completion."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": self.text})
        body: _Body = {"model": model, "messages": messages, "max_tokens": self.max_tokens}
        return body if self.temperature is None else body | {"temperature": self.temperature}


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedLease:
    """A lease to ask for: for whom, on which model, and how."""

    session: str
    model: str
    intent: str = "use"
    ttl_s: float = COMPLETION_TTL_S
    priority: str = "normal"

    def name(self) -> _Body:
        """Return what the broker knows the lease by."""
        return {"sessionKey": self.session, "model": self.model, "intent": self.intent}

    def body(self) -> _Body:
        """Return the body of ``POST /lease`` for it."""
        return self.name() | {"ttlSeconds": self.ttl_s, "priority": self.priority}


class BrokerTools:
    """Asks one broker, for many sessions.

    Args:
        http: Its base URL is the broker's, its headers carry the API key.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._using: Counter[tuple[str, str]] = Counter()
        self._kept: set[tuple[str, str]] = set()

    async def status(self) -> _Body:
        """Return slots, models and how many wait."""
        status, models = await self._call("GET", "/status"), await self.models()
        return {"slots": status["slots"], "queued": status["queued"], **models}

    async def models(self) -> _Body:
        """Return the catalogue: each model with its state, holders and waiters."""
        return {"models": (await self._call("GET", "/models"))["models"]}

    async def queue(self) -> _Body:
        """Return the live leases in order of service."""
        return await self._call("GET", "/queue")

    async def lease(self, ask: WantedLease, *, wait_s: float, waiting: Waiting) -> _Body:
        """Ask for a lease and wait a while.

        Returns:
            The lease, active or still queued.

        Raises:
            BrokerToolError: The broker refused.
        """
        try:
            lease = await self._asked(ask, wait_s=wait_s, waiting=waiting)
        except anyio.get_cancelled_exc_class():
            if (ask.session, ask.model) not in self._kept:
                await self._give_back(ask)  # nothing is loaded for who asks no more
            raise
        if ask.intent == "use":
            self._kept.add((ask.session, ask.model))
        return lease

    async def release(self, ask: WantedLease) -> bool:
        """Give a session's lease back, or leave the queue; False where there was none."""
        self._kept.discard((ask.session, ask.model))
        return bool(await self._call("POST", "/release", ask.name()))

    async def position(self, session: str) -> list[_Body]:
        """Return a session's leases, and why those that are queued wait."""
        leases = (await self._call("GET", "/queue?limit=1000"))["leases"]
        mine = [lease for lease in leases if _is_label_of(lease["sessionKey"], session)]
        for lease in mine:
            if lease["state"] == "queued":
                lease["why"] = (await self._call("GET", f"/lease/{lease['leaseId']}/why"))["lines"]
        return mine

    async def complete(self, ask: WantedLease, prompt: Prompt, *, wait_s: float, waiting: Waiting) -> _Body:
        """Get one answer of a model, under a lease of its own or the one the session has.

        Raises:
            BrokerToolError: The model is busy (the ticket is kept for whoever asks again), the broker refused, or the
        model failed.
        """
        async with self._used(ask, wait_s=wait_s, waiting=waiting) as lease:
            endpoint = lease["endpoint"]
            headers = {"Authorization": f"Bearer {endpoint['apiKey']}"}
            try:
                async with httpx.AsyncClient(
                    base_url=endpoint["baseUrl"], headers=headers, timeout=MODEL_TIMEOUT, trust_env=False
                ) as model:
                    name = (await model.get("/models")).raise_for_status().json()["data"][0]["id"]
                    answer = await model.post("/chat/completions", json=prompt.body(name))
            except httpx.TransportError as error:
                raise BrokerToolError(
                    f"the model server was lost ({type(error).__name__}); call complete again"
                ) from error
            except (httpx.HTTPStatusError, ValueError, LookupError) as error:
                raise BrokerToolError(f"{ask.model} does not answer as a model server should: {error}") from error
        return _completion(ask.model, answer)

    @contextlib.asynccontextmanager
    async def _used(self, ask: WantedLease, *, wait_s: float, waiting: Waiting) -> AsyncIterator[_Body]:
        """Hold a lease and give it back, unless it was there before or another call of the session needs it."""
        place = (ask.session, ask.model)
        self._using[place] += 1
        keeps_place = False
        try:
            lease = await self._asked(ask, wait_s=wait_s, waiting=waiting)
            if lease["state"] == "queued":
                keeps_place = True
                raise BrokerToolError(await self._busy(ask, lease))
            renewing = asyncio.create_task(self._renew(lease, ask.ttl_s))
            try:
                yield lease
            finally:
                renewing.cancel()
        finally:
            self._using[place] -= 1
            if self._using[place] <= 0:
                del self._using[place]
                if place not in self._kept and not keeps_place:
                    await self._give_back(ask)

    async def _asked(self, ask: WantedLease, *, wait_s: float, waiting: Waiting) -> _Body:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        lease = await self._call("POST", "/lease", ask.body())
        while lease["state"] == "queued" and (left_s := deadline_s - loop.time()) > 0:
            await waiting(place_of(lease))
            held = await self._call("GET", f"/lease/{lease['leaseId']}?wait={min(left_s, POLL_S):.2f}&{LEAVES}")
            lease = {"nonce": lease["nonce"], **held}
        if lease["state"] == "ended":
            raise BrokerToolError(f"the broker ended the lease on {ask.model}: {lease.get('reason', 'unknown')}")
        return lease

    async def _renew(self, lease: _Body, ttl_s: float) -> None:
        """Renew until cancelled, or until the lease cannot be renewed any more; the answer comes in time or not."""
        body = {"leaseId": lease["leaseId"], "nonce": lease["nonce"], "ttlSeconds": ttl_s}
        with contextlib.suppress(BrokerToolError):
            while True:
                await asyncio.sleep(ttl_s / 3)
                await self._call("POST", "/renew", body)

    async def _give_back(self, ask: WantedLease) -> None:
        """Give the lease back, also when the client has cancelled the call."""
        with anyio.move_on_after(RELEASE_S, shield=True), contextlib.suppress(BrokerToolError):
            await self._call("POST", "/release", ask.name())

    async def _busy(self, ask: WantedLease, lease: _Body) -> str:
        ready = [model["name"] for model in (await self.models())["models"] if model["state"] == Residency.READY]
        others = ", ".join(name for name in ready if name != ask.model)
        instead = f", or use a model that is ready now: {others}" if others else ""
        kept = f"{lease.get('expiresInSeconds', COMPLETION_TTL_S):.0f}"
        again = f"the place is kept for {kept} s: call complete again with session {ask.session!r}"
        return f"GPU busy: {place_of(lease)}; {again}{instead}"

    async def _call(self, method: str, path: str, body: _Body | None = None) -> _Body:
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            where = self._http.base_url
            raise BrokerToolError(
                f"no answer from the broker at {where} ({type(error).__name__}); try again later"
            ) from error
        if answer.status_code == 204:
            return {}
        try:
            document = answer.json()
        except json.JSONDecodeError:
            raise BrokerToolError(f"{self._http.base_url} is no Hotseat broker: status {answer.status_code}") from None
        if answer.is_error:
            raise BrokerToolError(_refusal(document, answer.headers.get("Retry-After")))
        return dict(document)


def _is_label_of(label: str, session: str) -> bool:
    """Tell whether the broker shows this session so. Labels are percent-encoded, and long ones cut."""
    whole = unquote(label)
    return whole == session or (whole.endswith("…") and session.startswith(whole[:-1]))


def place_of(lease: _Body) -> str:
    """Say position and expected time in words."""
    eta_s, because = lease.get("etaSeconds"), str(lease.get("waitReason", "")).replace("_", " ")
    until = f"free in about {eta_s:.0f} s" if eta_s is not None else "nobody can say how long"
    return f"place {lease.get('position', '?')} in line for {lease['model']}, {until}" + (
        f" ({because})" if because else ""
    )


def _refusal(document: _Body, retry_after: str | None) -> str:
    words = f"{document.get('detail', 'refused')} [{document.get('code', 'unknown')}]"
    return f"GPU busy: {words}" if retry_after else words


def _completion(model: str, answer: httpx.Response) -> _Body:
    if answer.is_error:
        raise BrokerToolError(f"{model} refused the request with status {answer.status_code}: {answer.text[:300]}")
    try:
        document = answer.json()
        choice = document["choices"][0]
        text = choice["message"].get("content") or ""
    except (ValueError, LookupError, AttributeError) as error:
        raise BrokerToolError(f"{model} answered in a form nobody knows; call complete again") from error
    if not text.strip():
        why = "its tokens went elsewhere: raise max_tokens" if choice.get("finish_reason") == "length" else "try again"
        raise BrokerToolError(f"{model} answered nothing; {why}")
    return {"text": text, "finish_reason": choice.get("finish_reason"), "usage": document.get("usage") or {}}

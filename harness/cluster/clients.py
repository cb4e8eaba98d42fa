"""Clients of a cluster: each asks, waits, uses, renews and gives back through HTTP, and writes down what it saw."""

import asyncio
import base64
import hashlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from harness.history.trace import Operation

ATTEMPT_TIMEOUT_S = 6.0
OPERATION_TIMEOUT_S = 60.0
POLL_WAIT_S = 3.0
USE_TIMEOUT_S = 8.0
RETRY_S = 0.2
TTL_S = 8.0
UNSETTLED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same operation is tried again."""


def session_hash(session: str) -> str:
    """As in ``P:session:<sh>``, of whoever calls without a key."""
    return base64.b32encode(hashlib.sha256(f"anonymous\n{session}".encode()).digest()).decode().lower()[:20]


@dataclass(slots=True, kw_only=True)
class Journal:
    """What all clients saw, and complaints that need no trace to be judged."""

    operations: list[Operation] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    """From asking to active, per lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The end of an operation: a definite yes or no, or nothing."""

    outcome: str
    status: int = 0
    body: dict[str, Any] = field(default_factory=dict)


class Client:
    """One session that takes leases, one after the other."""

    def __init__(
        self, name: str, broker_urls: Sequence[str], models: Sequence[str], journal: Journal, rng: random.Random
    ) -> None:
        self.name = name
        self._brokers = broker_urls
        self._models = models
        self._journal = journal
        self._rng = rng
        self._sh = session_hash(name)
        self._http = httpx.AsyncClient(timeout=ATTEMPT_TIMEOUT_S, trust_env=False)
        self._count = 0
        self.busy = False
        """Between asking for a lease and being done with it."""

    async def run(self, stopping: Callable[[], bool]) -> None:
        """Take leases until told to stop; the last one is used to its end."""
        try:
            while not stopping():
                self.busy = True
                await self._one_lease()
                self.busy = False
                await asyncio.sleep(self._rng.uniform(0.0, 0.6))
        finally:
            self.busy = False
            await self._http.aclose()

    # ------------------------------------------------------------------------------------------------- one lease

    async def _one_lease(self) -> None:
        asked_s = time.monotonic()
        model = self._rng.choice(self._models)
        lease = await self._acquire(model)
        while lease is not None and lease.state == "queued":
            lease = await self._poll(lease)
        if lease is None or lease.state not in {"active", "ending"}:
            return
        self._journal.waits_s.append(time.monotonic() - asked_s)
        await self._use_and_renew(lease)
        if self._rng.random() < 0.08:
            return  # forgotten: it has to expire
        await self._check_wrong_nonce(lease)
        await self._release(lease)
        await self._use_after_the_end(lease)

    async def _acquire(self, model: str) -> "_Held | None":
        self._count += 1
        operation = f"{self.name}-{self._count}"
        body = {
            "sessionKey": self.name,
            "model": model,
            "ttlSeconds": TTL_S,
            "wait": self._rng.choice((0, 0, POLL_WAIT_S)),
            "priority": self._rng.choice(("interactive", "normal", "background")),
        }
        note = self._note("acquire", model=model, operation=operation)
        answer = await self._call("POST", "/lease", json=body, headers={"Idempotency-Key": operation})
        return self._noted(note, answer)

    async def _poll(self, lease: "_Held") -> "_Held | None":
        note = self._note("poll", lease=lease)
        answer = await self._call("GET", f"/lease/{lease.lease}", params={"wait": POLL_WAIT_S})
        if answer.outcome == "refused":
            self._complain(f"poll of {lease.lease} refused: {answer.status} {answer.body}")
        return self._noted(note, answer) or (lease if answer.outcome == "unknown" else None)

    async def _use_and_renew(self, lease: "_Held") -> None:
        for _ in range(self._rng.randint(1, 4)):
            await self._use(lease, state="active")
            if self._rng.random() < 0.3:
                now = await self._renew(lease)
                if now is None or now.state != "active":
                    return
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))

    async def _renew(self, lease: "_Held") -> "_Held | None":
        note = self._note("renew", lease=lease)
        return self._noted(note, await self._call("POST", "/renew", json=lease.reference | {"ttlSeconds": TTL_S}))

    async def _release(self, lease: "_Held") -> None:
        note = self._note("release", lease=lease)
        answer = await self._call("POST", "/release", json=lease.reference)
        if answer.outcome == "refused":
            self._complain(f"release of {lease.lease} refused: {answer.status} {answer.body}")
        self._noted(note, answer)

    async def _check_wrong_nonce(self, lease: "_Held") -> None:
        if self._rng.random() > 0.1:
            return
        answer = await self._call("POST", "/release", json=lease.reference | {"nonce": "wrong"})
        if answer.outcome == "ok" or (answer.outcome == "refused" and answer.status != 409):
            self._complain(f"release of {lease.lease} with a wrong nonce: {answer.status} {answer.body}")

    async def _use_after_the_end(self, lease: "_Held") -> None:
        """Whoever keeps an old endpoint must not get an answer from a later load: judged from the trace."""
        if self._rng.random() < 0.4:
            await asyncio.sleep(self._rng.uniform(0.0, 3.0))
            await self._use(lease, state="ended")

    # -------------------------------------------------------------------------------------------------- the model

    async def _use(self, lease: "_Held", *, state: str) -> None:
        """One real completion on the model server itself; ``state``: of the lease, as its client believes."""
        note = replace(self._note("use", lease=lease), state=state)
        tokens = self._rng.choice((1, 4, 16))
        outcome, detail = "unknown", ""
        try:
            answer = await self._http.post(
                f"{lease.base_url}/completions",
                json={"prompt": "hi", "max_tokens": tokens},
                headers={"Authorization": f"Bearer {lease.key}"},
                timeout=USE_TIMEOUT_S,
            )
            outcome = "ok" if answer.status_code == httpx.codes.OK else "refused"
            detail = str(answer.status_code)
        except (httpx.HTTPError, OSError) as error:
            detail = type(error).__name__
        self._journal.operations.append(replace(note, return_s=time.monotonic(), outcome=outcome, detail=detail))

    # --------------------------------------------------------------------------------------------------- plumbing

    async def _call(self, method: str, path: str, **request: Any) -> Answer:
        """Try again, at any broker, until there is a definite answer."""
        deadline_s = time.monotonic() + OPERATION_TIMEOUT_S
        last = Answer(outcome="unknown")
        while time.monotonic() < deadline_s:
            try:
                response = await self._http.request(method, self._rng.choice(self._brokers) + path, **request)
            except (httpx.HTTPError, OSError):
                await asyncio.sleep(RETRY_S)
                continue
            last = _answer(response)
            if last.outcome != "unknown":
                return last
            if response.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
                self._complain(f"{method} {path}: 500 {response.text[:300]}")
            await asyncio.sleep(RETRY_S)
        return last

    def _note(self, kind: str, *, lease: "_Held | None" = None, model: str = "", operation: str = "") -> Operation:
        now_s = time.monotonic()
        note = Operation(client=self.name, kind=kind, invoke_s=now_s, return_s=now_s, outcome="unknown", sh=self._sh)
        if lease is not None:
            return replace(note, lease=lease.lease, model=lease.model)
        return replace(note, model=model, operation=operation)

    def _noted(self, note: Operation, answer: Answer) -> "_Held | None":
        """Write the operation down; the lease of a definite yes."""
        body = answer.body
        done = replace(
            note,
            return_s=time.monotonic(),
            outcome=answer.outcome,
            detail=str(body.get("code", answer.status)),
            lease=body.get("leaseId", note.lease),
            state=body.get("state", ""),
            reason=body.get("reason", ""),
        )
        self._journal.operations.append(done)
        return _Held.of(body) if answer.outcome == "ok" else None

    def _complain(self, complaint: str) -> None:
        self._journal.complaints.append(f"{self.name}: {complaint}")


def _answer(response: httpx.Response) -> Answer:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.is_success and "state" in body:
        return Answer(outcome="ok", status=response.status_code, body=body)
    if response.status_code in UNSETTLED or response.is_success:
        return Answer(outcome="unknown", status=response.status_code, body=body)
    return Answer(outcome="refused", status=response.status_code, body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A lease as its client knows it."""

    lease: str
    nonce: str
    model: str
    state: str
    base_url: str = ""
    key: str = ""

    @classmethod
    def of(cls, body: dict[str, Any]) -> "_Held":
        endpoint = body.get("endpoint") or {}
        return cls(
            lease=body["leaseId"],
            nonce=body["nonce"],
            model=body["model"],
            state=body["state"],
            base_url=endpoint.get("baseUrl", ""),
            key=endpoint.get("apiKey", ""),
        )

    @property
    def reference(self) -> dict[str, str]:
        """For ``/renew`` and ``/release``."""
        return {"leaseId": self.lease, "nonce": self.nonce}

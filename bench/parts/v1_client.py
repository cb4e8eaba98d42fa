"""A client of any ``/v1``: streams chat completions and keeps account of what became of them."""

import asyncio
import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

CONNECT_S = 10.0


@dataclass(slots=True)
class Streams:
    """What became of some client's streams."""

    finished: int = 0
    """Ended as they should: with ``length``, and the last word."""
    cut: int = 0
    """Began to speak and did not end so."""
    failed: int = 0
    """Never said anything."""
    tokens: int = 0
    """Events with text."""
    failures: list[str] = field(default_factory=list)
    first_token_s: float | None = None
    """Loop time."""
    gaps: int = 0
    """Times that no request was open any more."""
    _open: int = 0
    _first: asyncio.Event = field(default_factory=asyncio.Event)

    def begins(self) -> None:
        """A request is sent."""
        self._open += 1

    def ends(self, tokens: int, finish: str, trouble: str) -> None:
        """And is over."""
        self._open -= 1
        self.gaps += self._open == 0
        if finish == "length" and not trouble:
            self.finished += 1
            return
        self.failures.append(trouble or f"ended with {finish or 'nothing'}")
        if tokens:
            self.cut += 1
        else:
            self.failed += 1

    def spoke(self, *, counts: bool) -> None:
        """A token came."""
        self.tokens += counts
        if self.first_token_s is None:
            self.first_token_s = asyncio.get_running_loop().time()
            self._first.set()

    async def first_token(self, within_s: float) -> bool:
        """Wait for the first token of all; False: it did not come in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._first.wait()
        except TimeoutError:
            return False
        return True


class V1Client:
    """Connections to one ``/v1``."""

    def __init__(self, url: str, *, tokens: int) -> None:
        self._url = f"{url}/chat/completions"
        self._tokens = tokens
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        # a connection of its own for each: on a kept one a server's idle time-out may meet the next request
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=CONNECT_S), limits=limits, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @staticmethod
    def now_s() -> float:
        """Loop time."""
        return asyncio.get_running_loop().time()

    async def ask(
        self,
        model: str,
        session: str,
        streams: Streams,
        *,
        until_s: float = float("inf"),
        half: asyncio.Event | None = None,
    ) -> None:
        """Stream one answer.

        Args:
            model: Its name.
            session: Sent as ``user``, the field that every client has.
            streams: Keeps account.
            until_s: Tokens that come later are not counted, loop time.
            half: Set when half of the answer is there, or its end.
        """
        half = half or asyncio.Event()
        tokens, finish, done, trouble = 0, "", False, ""
        streams.begins()
        try:
            async with self._http.stream("POST", self._url, json=self._body(model, session)) as answer:
                if answer.status_code != 200:
                    trouble = f"{answer.status_code} {(await answer.aread())[:200]!r}"
                async for line in answer.aiter_lines():
                    said, ended = _read(line)
                    finish, done = ended or finish, done or line == "data: [DONE]"
                    if said:
                        tokens += 1
                        streams.spoke(counts=self.now_s() <= until_s)
                        if tokens >= self._tokens // 2:
                            half.set()
        except httpx.HTTPError as error:
            trouble = repr(error)
        streams.ends(tokens, finish if done else "", trouble)
        half.set()

    def _body(self, model: str, session: str) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [{"role": "user", "content": "ba de fi"}],
            "max_tokens": self._tokens,
            "stream": True,
            "user": session,
        }


def _read(line: str) -> tuple[bool, str]:
    """Does an event carry text, and does it say why the text ends?"""
    if not line.startswith("data: {"):
        return False, ""
    choices = json.loads(line[6:]).get("choices")
    if not choices:
        return False, ""
    delta = choices[0].get("delta", {})
    return bool(delta.get("content") or delta.get("reasoning_content")), choices[0].get("finish_reason") or ""

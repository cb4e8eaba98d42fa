"""Clients of ``/v1``: each streams an answer through a broker, again and again, and looks how it ends."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

STREAM_TIMEOUT_S = 30.0
PAUSE_S = 0.3
SHORTEST, LONGEST = 20, 200
"""Tokens of an answer."""


@dataclass(slots=True, kw_only=True)
class Endings:
    """How streams ended."""

    counts: Counter[str] = field(default_factory=Counter)
    silent: list[str] = field(default_factory=list)
    """Those that ended as if they were whole, and were not: their clients could not tell."""


class Streamer:
    """One session that streams."""

    def __init__(
        self, name: str, broker_urls: Sequence[str], models: Sequence[str], endings: Endings, rng: random.Random
    ) -> None:
        self.name = name
        self._brokers = broker_urls
        self._models = models
        self._endings = endings
        self._rng = rng

    async def run(self, stopping: Callable[[], bool]) -> None:
        """Stream until told to stop."""
        async with httpx.AsyncClient(timeout=STREAM_TIMEOUT_S, trust_env=False) as http:
            while not stopping():
                self._endings.counts[await self._one(http)] += 1
                await asyncio.sleep(self._rng.uniform(0.0, PAUSE_S))

    async def _one(self, http: httpx.AsyncClient) -> str:
        body = {
            "model": self._rng.choice(self._models),
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": self._rng.randint(SHORTEST, LONGEST),
            "stream": True,
        }
        url, headers = self._rng.choice(self._brokers) + "/v1/chat/completions", {"x-hotseat-session": self.name}
        try:
            async with http.stream("POST", url, json=body, headers=headers) as answer:
                text = (await answer.aread()).decode(errors="replace")
        except (httpx.HTTPError, OSError):
            return "cut off"
        if answer.status_code != httpx.codes.OK:
            return f"told {answer.status_code}"
        last = text.rstrip().rpartition("data: ")[2]
        if last == "[DONE]":
            return "whole"
        if '"error"' in last:
            return "ended by an error"
        self._endings.silent.append(f"{self.name}: {last[-200:]!r}")
        return "silent"

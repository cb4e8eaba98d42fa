"""Clients of the data path: the official SDKs, in threads, that check every answer against the first of its kind."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from harness.stack import Stack
from tests.fakes.sdks import anthropic, openai

EXACT = {"cache_prompt": False}


@dataclass
class Tally:
    """What all clients saw."""

    served: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    sent_away: int = 0
    expected: dict[tuple[str, str], str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, model: str, kind: str, text: str, took_s: float) -> None:
        """One answer; at temperature 0 it must be the one that all others got."""
        with self.lock:
            self.served[model] += 1
            self.waits_s.append(took_s)
            if self.expected.setdefault((model, kind), text) != text:
                self.failures.append(f"{model} {kind}: {text!r} is not {self.expected[model, kind]!r}")

    def fail(self, what: str) -> None:
        """One failure."""
        with self.lock:
            self.failures.append(what)


def talk(stack: Stack, number: int, until_s: float, tally: Tally) -> None:
    """One client: turns of one model, then of the other, streamed and not, with both SDKs."""
    session = {"x-hotseat-session": f"client-{number}"}
    client = openai.OpenAI(base_url=stack.v1, api_key="unused", max_retries=20, timeout=120, default_headers=session)
    claude = anthropic.Anthropic(
        base_url=stack.url, api_key="unused", max_retries=20, timeout=120, default_headers=session
    )
    turns = 0
    with client, claude:
        while time.monotonic() < until_s:
            model = "ab"[(number + turns // 3) % 2]
            kind = ("chat", "stream", "responses", "messages")[(number + turns) % 4]
            turns += 1
            started_s = time.monotonic()
            try:
                text = _ask(client, claude, model, kind)
            except Exception as error:  # noqa: BLE001  whatever it is, it is counted
                tally.fail(f"{model} {kind}: {error!r}")
            else:
                tally.note(model, kind, text, time.monotonic() - started_s)


def _ask(client: "openai.OpenAI", claude: "anthropic.Anthropic", model: str, kind: str) -> str:
    hello: Any = [{"role": "user", "content": "ba de fi"}]
    if kind == "chat":
        whole = client.chat.completions.create(
            model=model, messages=hello, max_tokens=40, temperature=0, extra_body=EXACT
        )
        return whole.choices[0].message.content or ""
    if kind == "stream":
        with client.chat.completions.create(
            model=model, messages=hello, max_tokens=40, temperature=0, stream=True, extra_body=EXACT
        ) as chunks:
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    if kind == "responses":
        return client.responses.create(
            model=model, input="ba de fi", max_output_tokens=40, temperature=0, extra_body=EXACT
        ).output_text
    message = claude.messages.create(model=model, messages=hello, max_tokens=40, extra_body=EXACT | {"temperature": 0})
    return "".join(block.text for block in message.content if block.type == "text")

"""Clients that wait long for their model: one for each profile, and those that are sent away and come back.

A stream's parser must see an event of its profile every so often, as real clients' watchdogs do; a client that does not
stream must never find its place in line worse than before.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.fakes.broker_scene import config_of
from tests.fakes.gateway_scene import GatewayScene, gateway_scene
from tests.fakes.scripted_server import DONE, Script, stream, whole, word
from tests.fakes.sdks import openai

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
STREAMS = (
    ("openai", CHAT),
    ("reasoning", CHAT),
    ("comment", CHAT),
    ("openai", "/v1/completions"),
    ("anthropic", MESSAGES),
    ("comment", "/v1/responses"),
)
ANSWER = [word("one "), word("two"), DONE]
WHOLE = (
    b'{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"one two"}}]}'
)


@dataclass
class Waited:
    """How one client fared. Seconds."""

    client: str
    took_s: float = 0.0
    events: int = 0
    longest_gap_s: float = 0.0
    """Between two events that its parser counts."""
    sent_away: int = 0
    positions: list[int] = field(default_factory=list)
    failure: str = ""

    def line(self) -> str:
        """For the summary."""
        seen = f"{self.events} events, longest gap {self.longest_gap_s:.1f} s"
        if self.sent_away:
            seen = f"sent away {self.sent_away} times, positions {self.positions}"
        return f"  {self.client:34} {self.took_s:6.1f} s  {seen}  {self.failure or 'complete'}"


async def measure(
    load_s: float, gap_s: float, gateway: dict[str, object], *, bears_s: float, **limits: object
) -> list[Waited]:
    """All of them at once, while the model loads.

    Args:
        load_s: How long the model takes.
        gap_s: Most that a parser goes without an event.
        gateway: ``[gateway]`` of the broker.
        bears_s: The time-out of the SDK's clients, less than the load: they are sent away and come back.
        limits: Its ``[limits]``.
    """
    config = config_of(gateway=gateway, **limits)
    scripts: list[Script] = [stream(*ANSWER)]
    async with gateway_scene({"a": scripts}, config, load_s=load_s) as scene:
        _answer_as_asked(scene)
        jobs = [_stream(scene, profile, path, gap_s) for profile, path in STREAMS]
        jobs += [_sdk(scene, "does not stream", bears_s, profile=None, streams=False)]
        jobs += [_sdk(scene, "streams, profile none", bears_s, profile="none", streams=True)]
        return list(await asyncio.gather(*jobs))


def _answer_as_asked(scene: GatewayScene) -> None:
    server = scene.models["a"]

    def choose(asked: Any) -> None:
        server.scripts[:] = [stream(*ANSWER) if b'"stream":true' in asked.body.replace(b" ", b"") else whole(WHOLE)]

    server.on_ask = choose


async def _stream(scene: GatewayScene, profile: str, path: str, gap_s: float) -> Waited:
    waited = Waited(f"{profile} {path}")
    started_s = last_s = time.monotonic()
    body = {"model": "a", "stream": True, "messages": [], "user": f"{profile} {path}"}
    headers = {"x-hotseat-profile": profile}
    got = b""
    try:
        async with (
            httpx.AsyncClient(base_url=scene.url, timeout=gap_s) as client,
            client.stream("POST", path, json=body, headers=headers) as answer,
        ):
            async for line in answer.aiter_lines():
                if _counts(profile, line):
                    now_s = time.monotonic()
                    waited.longest_gap_s = max(waited.longest_gap_s, now_s - last_s)
                    waited.events, last_s = waited.events + 1, now_s
                got += line.encode() + b"\n"
    except httpx.HTTPError as error:
        waited.failure = repr(error)
    waited.took_s = time.monotonic() - started_s
    if not waited.failure and not got.endswith(b"".join(ANSWER)):
        waited.failure = f"ended with {got[-200:]!r}"
    if waited.longest_gap_s > gap_s:
        waited.failure = waited.failure or "a gap was too long"
    return waited


def _counts(profile: str, line: str) -> bool:
    """Is a line an event for this client's parser?"""
    return line.startswith("data:") or (profile == "comment" and line.startswith(":"))


async def _sdk(scene: GatewayScene, name: str, bears_s: float, *, profile: str | None, streams: bool) -> Waited:
    waited = Waited(f"OpenAI's SDK, {name}")
    started_s = time.monotonic()

    async def note(answer: httpx.Response) -> None:
        if answer.status_code == 429:
            waited.sent_away += 1
            waited.positions.append(int(answer.headers["x-hotseat-position"]))

    http = httpx.AsyncClient(event_hooks={"response": [note]}, timeout=bears_s)
    headers = {"x-hotseat-session": name} | ({"x-hotseat-profile": profile} if profile else {})
    async with openai.AsyncOpenAI(
        base_url=f"{scene.url}/v1", api_key="any", max_retries=50, http_client=http, default_headers=headers
    ) as client:
        try:
            waited.events = len(await _said(client, streams=streams))
        except openai.OpenAIError as error:
            waited.failure = repr(error)
    waited.took_s = time.monotonic() - started_s
    if waited.positions != sorted(waited.positions, reverse=True):
        waited.failure = waited.failure or "its place got worse"
    return waited


async def _said(client: "openai.AsyncOpenAI", *, streams: bool) -> str:
    hello: Any = [{"role": "user", "content": "hi"}]
    if not streams:
        return (await client.chat.completions.create(model="a", messages=hello)).choices[0].message.content or ""
    chunks = await client.chat.completions.create(model="a", messages=hello, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

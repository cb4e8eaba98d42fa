"""The plain snippets of the SDKs' own pages, through a wait that is filled with keepalives: none of them trips."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.broker_scene import config_of
from tests.fakes.gateway_scene import QUICK, gateway_scene
from tests.fakes.scripted_server import DONE, STREAM_HEAD, chunk
from tests.fakes.sdks import anthropic, openai

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "tests/unit/broker/answers/recorded"
JS = ROOT / "tests/clients_js"
LOAD_S = 1.0
CALL = [["ls", {"path": "."}]]
TEXT = " fita"
HELLO = [{"role": "user", "content": "Say hello."}]
TOOLS = [{"type": "function", "function": {"name": "ls", "parameters": {"type": "object"}}}]
QUIET = QUICK | {"max_silent_s": 30.0}


def delta(fields, finish=None):
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    said = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "a", "choices": [choice]}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def called(**function):
    first = {"id": "c1", "type": "function"} if "name" in function else {}
    return {"tool_calls": [{"index": 0, **first, "function": function}]}


A_CALL = b"".join(
    (
        delta({"role": "assistant", "content": None}),
        delta(called(name="ls", arguments="")),
        delta(called(arguments='{"path":')),
        delta(called(arguments='"."}')),
        delta({}, "tool_calls"),
        DONE,
    )
)
ANSWERS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}


@contextlib.asynccontextmanager
async def waiting_scene():
    """A model that takes a second to load, and answers as a recorded llama-server did."""
    async with gateway_scene({"a": [[b""]]}, config_of(gateway=QUIET), load_s=LOAD_S) as scene:

        def choose(asked):
            kind = ANSWERS[asked.target.partition("?")[0]]
            name = f"{kind}-without-usage.sse" if kind == "chat" else f"{kind}.sse"
            recorded = (RECORDED / name).read_bytes().replace(b"tiny-a", b"a").replace(b'"length"', b'"stop"')
            answer = A_CALL if b'"tools"' in asked.body else recorded
            scene.models["a"].scripts[:] = [[STREAM_HEAD, chunk(answer), chunk(b"")]]

        scene.models["a"].on_ask = choose
        yield scene


# ------------------------------------------------------------------------------------------------------------- Python
def plain(client, **more):
    chunks = client.chat.completions.create(model="a", messages=HELLO, stream=True, **more)
    return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks)}


def careful(client, **more):
    chunks = client.chat.completions.create(model="a", messages=HELLO, stream=True, **more)
    return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)}


def completions(client, **more):
    chunks = client.completions.create(model="a", prompt="Say hello.", stream=True, **more)
    return {"text": "".join(chunk.choices[0].text for chunk in chunks)}


def helper(client, **more):
    with client.chat.completions.stream(model="a", messages=HELLO, **more) as events:
        message = events.get_final_completion().choices[0].message
    calls = [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls or ()]
    return {"text": message.content, "type": message.role, "calls": calls}


def helper_with_tools(client, **more):
    return helper(client, tools=TOOLS, **more) | {"text": None}


def responses(client, **more):
    events = client.responses.create(model="a", input="Say hello.", stream=True, **more)
    return {"text": "".join(event.delta for event in events if event.type == "response.output_text.delta")}


PROFILES = ("openai", "reasoning", "comment", None)
PYTHON = [
    *((snippet, profile) for snippet in (plain, helper, helper_with_tools, completions) for profile in PROFILES),
    (careful, "no_choices"),
    (helper, "no_choices"),
    (helper_with_tools, "no_choices"),
    (responses, "comment"),
    (responses, "openai"),
    (responses, None),
]


def is_right(found):
    said = found.get("text")
    return (
        (not said or set(said.split()) == {"fita"})
        and found.get("type", "assistant") in {"assistant", "ai"}
        and (found["calls"] == CALL if not said else not found.get("calls"))
    )


@pytest.mark.parametrize("snippet, profile", PYTHON)
async def test_openais_python_snippets_take_a_wait(snippet, profile):
    async with waiting_scene() as scene:
        with openai.OpenAI(base_url=f"{scene.url}/v1", api_key="unused", max_retries=0, timeout=30) as client:
            headers = {"x-hotseat-profile": profile} if profile else {}
            found = await asyncio.to_thread(snippet, client, extra_headers=headers)
    assert is_right(found), found


@pytest.mark.parametrize("profile", ["anthropic", "comment", None])
async def test_anthropics_python_snippet_takes_a_wait(profile):
    def ask(client):
        headers = {"x-hotseat-profile": profile} if profile else {}
        with client.messages.stream(model="a", max_tokens=64, messages=HELLO, extra_headers=headers) as stream:
            return {"text": "".join(stream.text_stream), "type": stream.get_final_message().role}

    async with waiting_scene() as scene:
        with anthropic.Anthropic(base_url=scene.url, api_key="unused", max_retries=0, timeout=30) as client:
            found = await asyncio.to_thread(ask, client)
    assert is_right(found), found


# --------------------------------------------------------------------------------------------------------- JavaScript
NAMES = [
    "openai",
    "openai completions",
    "openai helper",
    "openai helper, tools",
    "openai responses",
    "anthropic",
    "langchain",
    "langchain, tools",
    "vercel",
    "vercel, tools",
]


@pytest.fixture(scope="module")
def node():
    if shutil.which("npm") is None:
        pytest.skip("no npm here")
    return shutil.which("node")


@pytest.fixture(scope="module")
def packages(node):
    if not (JS / "node_modules" / ".package-lock.json").exists():
        words = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
        subprocess.run(words, cwd=JS, check=True)
    return node


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
async def test_javascripts_snippets_take_a_wait(packages, name):
    async with waiting_scene() as scene:
        process = await asyncio.create_subprocess_exec(
            packages,
            "snippets.mjs",
            scene.url,
            name,
            cwd=JS,
            env=os.environ | {"NO_COLOR": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    found = json.loads(out)
    assert is_right(found), found

"""``docs/clients.md`` is true: its Python runs, its configuration can be read, and all of it means this broker."""

import asyncio
import contextlib
import io
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from schemas.config.routing import RoutingSection
from tests.fakes.gateway_scene import gateway_scene
from tests.fakes.scripted_server import DONE, GOOD, stream, whole, word

PAGE = (Path(__file__).parents[3] / "docs" / "clients.md").read_text()
BROKER = "http://127.0.0.1:4687"
MESSAGE = (
    b'{"id":"m","type":"message","role":"assistant","model":"a","content":[{"type":"text","text":"one two"}],'
    b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":2}}'
)
CHAT = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"one two"}}]}'
)
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES)
async def test_the_python_of_the_page_runs(code):
    for sdk in ("anthropic", "openai"):
        pytest.importorskip(sdk)
    said = io.StringIO()
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        server = scene.models["a"]

        def choose(asked) -> None:
            if asked.target.startswith("/v1/messages"):
                server.scripts[:] = [whole(MESSAGE)]
            elif b'"stream":true' in asked.body:
                server.scripts[:] = [stream(word("one "), word("two"), DONE)]
            else:
                server.scripts[:] = [whole(CHAT)]

        server.on_ask = choose
        assert BROKER in code
        program = compile(code.replace(BROKER, scene.url), "clients.md", "exec")
        with contextlib.redirect_stdout(said):
            await asyncio.to_thread(exec, program, {})
        await scene.all_given_back()
    assert "one two" in said.getvalue()


def test_the_configurations_of_the_page_can_be_read_and_name_the_broker():
    (litellm,) = (yaml.safe_load(text) for text in blocks("yaml"))
    assert litellm["model_list"][0]["litellm_params"]["api_base"] == f"{BROKER}/v1"
    ours, codex = (tomllib.loads(text) for text in blocks("toml"))
    assert RoutingSection.model_validate(ours["routing"]).alias[0].name == "claude-haiku-*"
    assert codex["model_providers"][codex["model_provider"]]["base_url"] == f"{BROKER}/v1"
    claude_code, open_webui = blocks("sh")
    assert f"ANTHROPIC_BASE_URL={BROKER}\n" in claude_code
    assert f"OPENAI_API_BASE_URL={BROKER}/v1" in open_webui
    assert len(EXAMPLES) == 3

"""The official SDKs as they come, two retries and their own time-out, without streaming: a cold load is waited for."""

import asyncio
import time

import pytest

from tests.fakes.broker_scene import config_of
from tests.fakes.gateway_scene import gateway_scene
from tests.fakes.scripted_server import whole
from tests.fakes.sdks import anthropic, openai

HELLO = [{"role": "user", "content": "hi"}]
ANSWER = (
    b'{"id":"x","object":"chat.completion","type":"message","role":"assistant","model":"a","stop_reason":"end_turn",'
    b'"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"one two"}}],'
    b'"content":[{"type":"text","text":"one two"}],"usage":{"input_tokens":1,"output_tokens":2}}'
)


async def of_openai(scene, **settings):
    async with openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="any", **settings) as client:
        answer = await client.chat.completions.create(model="a", messages=HELLO)
        return answer.choices[0].message.content


async def of_anthropic(scene, **settings):
    async with anthropic.AsyncAnthropic(base_url=scene.url, api_key="any", **settings) as client:
        answer = await client.messages.create(model="a", max_tokens=64, messages=HELLO)
        return answer.content[0].text


@pytest.mark.parametrize("ask", [of_openai, of_anthropic])
async def test_an_sdk_is_held_for_as_long_as_it_bears(ask):
    gateway = {"max_silent_s": 0.5}
    async with gateway_scene({"a": [whole(ANSWER)]}, config_of(gateway=gateway), load_s=4.0) as scene:
        assert await ask(scene) == "one two"
        tries = scene.client  # the SDK's own tries are counted at the broker
        report = (await tries.get("/metrics")).text
        assert 'outcome="queued"' not in report


@pytest.mark.parametrize("ask", [of_openai, of_anthropic])
async def test_three_tries_cover_three_times_what_an_sdk_bears(ask):
    async with gateway_scene({"a": [whole(ANSWER)]}, config_of(claim_ttl_s=10.0), load_s=12.0) as scene:
        assert await ask(scene, timeout=8.0) == "one two"
        assert len(scene.models["a"].asked) == 1
        await scene.all_given_back()


@pytest.mark.long
@pytest.mark.parametrize("minutes", [4, 9])
async def test_both_sdks_as_they_come_wait_for_minutes(minutes):
    async with gateway_scene({"a": [whole(ANSWER)]}, load_s=60.0 * minutes) as scene:
        started_s = time.monotonic()
        assert await asyncio.gather(of_openai(scene), of_anthropic(scene)) == ["one two"] * 2
        print(f"both answered after {time.monotonic() - started_s:.0f} s")  # noqa: T201  the figure of the benchmarks page

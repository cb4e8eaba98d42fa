"""Every fault of an answer, told by a server process: unseen where it can be, counted, and in the end quarantine."""

import json
import logging

import pytest

from broker.gateway.trust.suspicion import SuspicionSettings
from tests.fakes.broker_scene import config_of, until
from tests.fakes.gateway_scene import CHAT, QUICK, body_of, gateway_scene
from tests.fakes.model_process import model_process

COMPLETIONS = "/v1/completions"
SWIFT = QUICK | {"canary_pause_s": 0.01, "quarantine_s": 0.1, "max_silent_s": 10.0}
FAULTS = [
    (("--empty",), "empty", "no_content"),
    (("--garbage",), "garbage", "garbage"),
    (("--answer-name", "other"), "wrong_model", "wrong_model"),
    (("--error-inside",), "error_inside", "error_inside"),
]
UNSEEN = {"--empty", "--garbage", "--answer-name"}
"""Faults that show before the first token of a stream."""


def server_scene(url: str, gateway: dict[str, object]):
    return gateway_scene({}, config_of(gateway=gateway), serves=("a",), urls={"a": f"{url}/v1"})


def text_of(answer, path: str) -> str:
    if answer.headers["content-type"] != "text/event-stream":
        choices = answer.json()["choices"]
    else:
        frames = [frame.removeprefix("data: ") for frame in answer.text.split("\n\n") if frame]
        choices = [choice for frame in frames if frame != "[DONE]" for choice in json.loads(frame).get("choices", ())]
    said = [choice.get("message") or choice.get("delta") or choice for choice in choices]
    return "".join(part.get("content" if path == CHAT else "text") or "" for part in said)


def ask_of(path: str, *, stream: bool) -> dict[str, object]:
    return body_of(prompt="hi", max_tokens=2, stream=stream)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("flags, whole, streamed", FAULTS)
async def test_one_bad_answer_is_unseen_where_nothing_of_it_was_sent(path, flags, whole, streamed, caplog):
    caplog.set_level(logging.INFO)
    with model_process(*flags, "--bad-answers", "1", alias="a") as url:
        async with server_scene(url, SWIFT) as scene:
            answer = await scene.client.post(path, json=ask_of(path, stream=False))
            assert text_of(answer, path) == "tok0 tok1 "
            text = (await scene.client.get("/metrics")).text
            assert f'hotseat_gateway_semantic_failures_total{{model="a",reason="{whole}",route="local"}} 1.0' in text
    with model_process(*flags, "--bad-answers", "1", alias="a") as url:
        async with server_scene(url, SWIFT) as scene:
            answer = await scene.client.post(path, json=ask_of(path, stream=True))
            assert answer.status_code == 200
            text = (await scene.client.get("/metrics")).text
            assert f'hotseat_gateway_semantic_failures_total{{model="a",reason="{streamed}",route="local"}} 1.0' in text
            if flags[0] in UNSEEN:
                assert text_of(answer, path) == "tok0 tok1 "
            else:
                assert 'hotseat_gateway_retries_total{model="a"}' not in text
    retries = [vars(record)["retries"] for record in caplog.records if record.getMessage() == "request_closed"]
    assert retries == [1, int(flags[0] in UNSEEN)]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_budget_eaten_by_reasoning_is_counted_and_is_not_the_models_fault(stream):
    with model_process("--only-reasoning", alias="a") as url:
        async with server_scene(url, SWIFT) as scene:
            for _ in range(3):
                assert (await scene.client.post(CHAT, json=ask_of(CHAT, stream=stream))).status_code == 200
            text = (await scene.client.get("/metrics")).text
            tries = 3 if stream else 6
            assert (
                f'hotseat_gateway_semantic_failures_total{{model="a",reason="only_reasoning",route="local"}} {tries}.0'
                in text
            )
            assert (await scene.client.get("/v1/models/a")).json()["trust"] == "trusted"


@pytest.mark.parametrize("flags, whole, _streamed", FAULTS)
async def test_a_server_that_stays_bad_is_quarantined_and_comes_back_when_it_mends(flags, whole, _streamed):
    bad = 2 * int(SuspicionSettings().suspect_at) + 20  # both tries of each request, and its first canaries
    with model_process(*flags, "--bad-answers", str(bad), alias="a") as url:
        async with server_scene(url, SWIFT | {"quarantine_s": 0.5, "quarantine_max_s": 0.5}) as scene:
            for seed in range(int(SuspicionSettings().suspect_at)):
                await scene.client.post(CHAT, json=ask_of(CHAT, stream=False) | {"seed": seed})

            async def trust() -> str:
                return (await scene.client.get("/v1/models/a")).json()["trust"]

            async def quarantined() -> bool:
                return await trust() == "quarantined"

            await until(quarantined)
            refused = await scene.client.post(CHAT, json=ask_of(CHAT, stream=False))
            assert (refused.status_code, whole in refused.json()["error"]["message"]) == (503, True)

            async def trusted() -> bool:
                return await trust() == "trusted"

            await until(trusted, 20.0)
            answer = await scene.client.post(CHAT, json=ask_of(CHAT, stream=False))
            assert text_of(answer, CHAT) == "tok0 tok1 "

"""What is told of a request afterwards: series by route and reason, and one log line without a word of it."""

import json
import logging

from broker.access.principals import Scope
from tests.fakes.broker_scene import config_of, key_entry, until
from tests.fakes.gateway_scene import gateway_scene
from tests.fakes.scripted_server import DONE, GOOD, STREAM_HEAD, chunk, stream, whole, word

CHAT = "/v1/chat/completions"
SECRET = "my secret words"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":2,"total_tokens":32}}\n\n'


def lines_of(caplog) -> list[dict]:
    return [vars(record) for record in caplog.records if record.getMessage() == "request_closed"]


async def test_a_request_is_one_log_line_and_a_few_counts_without_content(caplog):
    caplog.set_level(logging.INFO)
    config = config_of(keys=(key_entry("k", Scope.LEASE, Scope.OBSERVE),))
    async with gateway_scene({"a": [stream(word(SECRET), word("more"), USAGE, DONE)]}, config) as scene:
        body = {"model": "a", "stream": True, "messages": [{"role": "user", "content": SECRET}], "user": SECRET}
        assert SECRET in (await scene.client.post(CHAT, json=body)).text
        await until(lambda: lines_of(caplog))
        assert SECRET not in caplog.text
        assert SECRET not in json.dumps([{key: str(value) for key, value in line.items()} for line in lines_of(caplog)])
        (line,) = lines_of(caplog)
        wanted = {"path": "/chat/completions", "model": "a", "route": "local", "reason": "named", "outcome": "served"}
        assert wanted.items() <= line.items()
        assert (line["status"], line["key"], line["retries"]) == (200, "k", 0)
        assert line["lease_id"].startswith("L")
        assert 0 <= line["first_byte_ms"] <= line["took_ms"]
        text = (await scene.client.get("/metrics")).text
        labels = 'model="a",outcome="served",path="/chat/completions",reason="named",route="local"'
        assert f"hotseat_gateway_requests_total{{{labels}}} 1.0" in text
        assert 'hotseat_gateway_wait_seconds_count{model="a"} 1.0' in text
        assert 'hotseat_gateway_first_byte_seconds_count{model="a"} 1.0' in text
        assert 'hotseat_gateway_tokens_total{kind="prompt",model="a",route="local"} 30.0' in text
        assert 'hotseat_gateway_tokens_total{kind="completion",model="a",route="local"} 2.0' in text


async def test_what_went_wrong_is_counted_by_its_code_and_strangers_make_no_series(caplog):
    caplog.set_level(logging.INFO)
    config = config_of(gateway={"dead_server_s": 0.1})
    scripts = [[None], whole(GOOD), [STREAM_HEAD, chunk(word("one")), None]]
    async with gateway_scene({"a": scripts}, config) as scene:
        await scene.client.post(CHAT, json={"model": "a"})
        await scene.client.post(CHAT, json={"model": "a", "stream": True})
        for number in range(3):
            answer = await scene.client.post(CHAT, json={"model": f"stranger-{number}"})
            told = answer.json()["error"]["message"]
            assert told == f"no model stranger-{number}; GET /v1/models lists what there is"
        await scene.client.post(CHAT, content=b"nonsense")
        text = (await scene.client.get("/metrics")).text
        assert 'outcome="upstream_broken",path="/chat/completions",reason="named",route="local"} 1.0' in text
        assert 'hotseat_gateway_retries_total{model="a"} 1.0' in text
        assert "stranger" not in text
        assert 'model="",outcome="model_not_found",path="/chat/completions",reason="",route=""} 3.0' in text
        outcomes = [line["outcome"] for line in lines_of(caplog)]
        assert outcomes == ["served", "upstream_broken", *["model_not_found"] * 3, "malformed"]

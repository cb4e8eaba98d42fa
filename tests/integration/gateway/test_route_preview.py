"""``POST /route`` and ``hotseat route``: where a request would go, without serving it, and as it then does."""

import asyncio
import json

import pytest

from broker.access.principals import Scope
from hotseat.commands.route import route
from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import config_of, key_entry
from tests.fakes.cloud_scene import NEAR, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, body_of, gateway_scene

RULES = [{"task": ["code"], "candidates": ["b"]}, {"effort": ["high"], "candidates": ["cloud/acme"]}]
SMART = alias("smart", "a", "cloud/acme", rule=RULES)
KEYS = (
    key_entry("ops", Scope.LEASE, Scope.OBSERVE),
    key_entry("near", models=("a", "b"), task="code"),
    key_entry("looks", Scope.OBSERVE),
    key_entry("pushes", Scope.OPERATE),
)


async def foresee(scene, request, key="ops"):
    answer = await scene.client.post("/route", json=request, headers=scene.auth(key))
    assert answer.status_code == 200, answer.text
    return answer.json()


def says(text, **more):
    return body_of("smart", messages=[{"role": "user", "content": text}], **more)


async def test_it_says_what_then_happens_and_nothing_has_happened(tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(SMART,), keys=KEYS, day_budget=1.0)
        async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
            for body, headers in (
                (says("hi"), {}),
                (says("Write a function."), {}),
                (says("hi", reasoning_effort="high"), {}),
                (says("hi", reasoning_effort="high"), {"x-hotseat-private": "1", "x-hotseat-session": "p"}),
                (says("hi"), {"x-hotseat-task": "code"}),
                (body_of("gpt-4o"), {}),
                (body_of("cloud/acme"), {"x-hotseat-session": "p"}),
            ):
                told = await foresee(scene, {"path": CHAT, "headers": headers, "body": body})
                answer = await scene.client.post(CHAT, json=body, headers={**headers, **scene.auth("ops")})
                assert told["status"] == answer.status_code, told
                assert told["route"] == answer.headers["x-hotseat-route"]
                assert told["serves"] == answer.headers.get("x-hotseat-model")
                assert told["private"] == answer.headers.get("x-hotseat-private")
                if told["message"]:
                    assert told["message"] == answer.json()["error"]["message"]


async def test_nothing_is_leased_marked_asked_or_spent(tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(SMART,), keys=KEYS, day_budget=1.0)
        async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
            asked: list[str] = []
            store = scene.store
            for name in ("acquire", "release", "cancel"):
                if hasattr(store, name):
                    setattr(store, name, lambda *_, name=name, **__: asked.append(name))
            remembered = (
                (store.privacy_marks, "mark_private"),
                (store.spending, "add_within"),
                (store.spending, "add"),
            )
            for port, name in remembered:
                setattr(port, name, lambda *_, name=name, **__: asked.append(name))
            headers = {"x-hotseat-session": "s"}
            told = await foresee(scene, {"headers": headers, "body": says("my password is correcthorse")})
            assert (told["private"], told["route"], told["serves"]) == ("word:password", "local", "a")
            told = await foresee(scene, {"headers": headers, "body": says("hi", reasoning_effort="high")})
            assert (told["private"], told["route"]) == (None, "cloud"), "the session was not marked"
            assert told["choices"][0]["reserve"] > 0
            assert not asked
            assert cloud.accepted == 0
            assert not any(model.asked for model in scene.models.values())
            assert not scene.context.sightings._ids


async def test_it_says_why_with_all_that_was_looked_at(tmp_path):
    config = routed(upstream(tmp_path, "acme", "http://127.0.0.1:9/v1"), aliases=(SMART,), keys=KEYS)
    async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
        tool = {"type": "function", "function": {"name": "f"}}
        told = await foresee(scene, {"body": says("Write a function.", tools=[tool], reasoning_effort="low")})
        assert (told["task"], told["taskFrom"], told["effort"], told["rule"]) == ("code", "request", "low", 1)
        assert (told["tools"], told["toolCalls"], told["schemaDepth"]) == (1, 0, 0)
        assert told["promptTokens"] > 3
        assert [one["model"] for one in told["choices"]] == ["b"]
        told = await foresee(scene, {"body": says("hi"), "headers": {"x-hotseat-deadline-s": "0.5"}})
        assert [(one["model"], one["late"]) for one in told["choices"]] == [("a", True), ("cloud/acme", True)]
        told = await foresee(scene, {"body": says("hi"), "headers": {"x-hotseat-private": "yes"}})
        assert told["passedOver"] == [{"model": "cloud/acme", "why": "private"}]
        told = await foresee(scene, {"body": body_of("nobody")})
        assert (told["route"], told["reason"], told["status"]) == ("refused", "unknown_model", 404)
        told = await foresee(scene, {"body": {"messages": []}})
        assert (told["route"], told["status"], told["model"]) == ("refused", 400, None)
        told = await foresee(scene, {"body": says("hi"), "headers": {"x-hotseat-task": "x"}})
        assert (told["route"], told["reason"], told["status"]) == ("refused", "bad_argument", 400)


async def test_a_key_sees_its_own_and_needs_observe_for_another(tmp_path):
    config = routed(upstream(tmp_path, "acme", "http://127.0.0.1:9/v1"), aliases=(SMART,), keys=KEYS)
    async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
        told = await foresee(scene, {"body": says("hi")}, key="near")
        assert (told["serves"], told["taskFrom"], told["passedOver"]) == ("b", "key", [])
        told = await foresee(scene, {"body": says("hi"), "key": "near"}, key="looks")
        assert (told["serves"], told["taskFrom"]) == ("b", "key")
        told = await foresee(scene, {"body": body_of("cloud/acme"), "key": "near"})
        assert (told["route"], told["status"], told["reason"]) == ("refused", 403, "not_allowed")
        for request, key, status in (
            ({"body": says("hi"), "key": "ops"}, "near", 403),
            ({"body": says("hi")}, "pushes", 403),
            ({"body": says("hi"), "key": "nobody"}, "ops", 404),
        ):
            answer = await scene.client.post("/route", json=request, headers=scene.auth(key))
            assert answer.status_code == status
        anonymous = await scene.client.post("/route", json={"body": says("hi")}, headers={"Authorization": ""})
        assert anonymous.status_code == 401


@pytest.mark.parametrize(
    "body, path",
    [
        ({"model": "a", "messages": []}, "/v1/chat/completions"),
        ({"model": "a", "messages": [], "system": "x"}, "/v1/messages"),
        ({"model": "a", "prompt": "x"}, "/v1/completions"),
        ({"model": "a", "input": "x"}, "/v1/responses"),
        ({"model": "a", "input": [{"role": "user", "content": "x"}]}, "/v1/responses"),
        ({"model": "v", "input": "x"}, "/v1/embeddings"),
        ({"model": "v", "input": ["x", "y"]}, "/v1/embeddings"),
        ({"model": "a", "input": "x", "encoding_format": "float"}, "/v1/embeddings"),
        ({"model": "a", "query": "x", "documents": ["y"]}, "/v1/rerank"),
    ],
)
async def test_a_body_alone_is_taken_for_what_it_looks_like(body, path):
    models = (ModelEntry(name="a", memory_mib=900), ModelEntry(name="v", memory_mib=900, kind="embedding"))
    async with gateway_scene({"a": [NEAR]}, config_of(models=models)) as scene:
        answer = (await scene.client.post("/route", json=body)).json()
        assert answer["path"] == path


@pytest.mark.parametrize(
    "content, headers, status, words",
    [
        (b"{", {}, 400, "not JSON"),
        (b"[]", {}, 422, "Expected `object`"),
        (b'{"hello": 1}', {}, 422, "'body'"),
        (b'{"body": 1}', {}, 422, "must be a JSON object"),
        (b'{"body": {}, "bodi": 1}', {}, 422, "unknown field `bodi`"),
        (b'{"body": {}, "path": "/v1/nothing"}', {}, 422, "'/v1/nothing' is none of /v1/chat/completions"),
        (b'{"body": {"model": "a"}}', {"content-type": "text/plain"}, 415, "application/json"),
    ],
)
async def test_what_cannot_be_read_is_named(content, headers, status, words):
    async with gateway_scene({"a": [NEAR]}) as scene:
        sent = {"content-type": "application/json", **headers}
        answer = await scene.client.post("/route", content=content, headers=sent)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


async def test_without_routing_it_says_what_the_model_is_like():
    async with gateway_scene({"a": [NEAR], "b": [NEAR]}) as scene:
        assert (await scene.client.post(CHAT, json=body_of("a"))).status_code == 200
        told = (await scene.client.post("/route", json=body_of("a"))).json()
        assert (told["route"], told["reason"], told["serves"]) == ("local", "named", "a")
        told = (await scene.client.post("/route", json={"model": "a", "input": "x", "encoding_format": "float"})).json()
        assert (told["status"], told["route"]) == (400, "refused")
        assert "a gives no embeddings" in told["message"]
        told = (await scene.client.post("/route", json=body_of("nobody"))).json()
        assert told["status"] == 404


async def test_a_large_recorded_request_is_looked_at_within_the_limits_of_v1(tmp_path):
    config = routed(upstream(tmp_path, "acme", "http://127.0.0.1:9/v1"), aliases=(SMART,), gateway={"max_body_mib": 1})
    async with routed_scene({"a": [NEAR]}, config) as scene:
        told = (await scene.client.post("/route", json={"body": says("words " * 100_000)})).json()
        assert told["promptTokens"] > 100_000
        answer = await scene.client.post("/route", json={"body": says("words " * 300_000)})
        assert answer.status_code == 413
        assert scene.context.room.open == scene.context.room.bytes == 0


# ------------------------------------------------------------------------------------------------- the command
def command(scene, monkeypatch, capsys, key="ops"):
    monkeypatch.setenv("HOTSEAT_URL", scene.url)
    monkeypatch.setenv("HOTSEAT_API_KEY", f"hsk_{key}")

    async def run(*arguments):
        status = await asyncio.to_thread(route, list(arguments))
        out, err = capsys.readouterr()
        return status, out, err

    return run


async def test_an_operator_sees_each_request_and_the_shares(tmp_path, monkeypatch, capsys):
    lines = [
        says("hi"),
        {
            "path": "/v1/chat/completions",
            "headers": {"Authorization": "Bearer secret"},
            "body": says("Write a function."),
        },
        says("hi", reasoning_effort="high"),
        says("my password is correcthorse", reasoning_effort="high"),
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    config = routed(upstream(tmp_path, "acme", "http://127.0.0.1:9/v1"), aliases=(SMART,), keys=KEYS)
    async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
        run = command(scene, monkeypatch, capsys)
        status, out, err = await run(str(file))
        assert (status, err) == (0, "")
        rows = out.splitlines()
        assert rows[0].split() == ["AT", "MODEL", "TASK", "EFFORT", "ROUTE", "SERVED", "BY", "REASON", "PRIVATE"]
        assert rows[2].split()[:6] == ["2", "smart", "code", "-", "local", "b"]
        assert rows[3].split()[:6] == ["3", "smart", "chat", "high", "cloud", "cloud/acme"]
        assert rows[4].split()[-1] == "word:password"
        assert "4 requests: local 2 (50.0 %), cloud 1 (25.0 %), refused 1 (25.0 %); private 1 (25.0 %)" in out
        status, out, _ = await run(str(file), "--json", "--model", "a")
        told = json.loads(out)
        assert told["summary"]["routes"] == {"local": 4, "inside": 0, "cloud": 0, "refused": 0}
        assert (told["summary"]["staysShare"], told["summary"]["private"]) == (1.0, 1)
        assert [one["at"] for one in told["requests"]] == [f"line {n}" for n in range(1, 5)]
        status, out, _ = await run(str(file), "--summary", "--key", "near")
        assert (status, out.startswith("4 requests: local 4")) == (0, True)


async def test_one_request_is_shown_closely(tmp_path, monkeypatch, capsys):
    file = tmp_path / "one.json"
    file.write_text(json.dumps(says("Write a function.", reasoning_effort="low")))
    config = routed(upstream(tmp_path, "acme", "http://127.0.0.1:9/v1"), aliases=(SMART,), keys=KEYS)
    async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
        status, out, _ = await command(scene, monkeypatch, capsys)(str(file))
    assert status == 0
    for words in ("code (says the request)", "the 1. of smart", "local: queued", "CANDIDATE", "15.0 s"):
        assert words in out, out


async def test_mistakes_are_told_and_the_rest_is_done(tmp_path, monkeypatch, capsys):
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps(says("hi")) + "\n{\n" + json.dumps({"body": says("x"), "path": "/nothing"}) + "\n")
    config = routed(upstream(tmp_path, "acme", "http://127.0.0.1:9/v1"), aliases=(SMART,), keys=KEYS)
    async with routed_scene({"a": [NEAR]}, config) as scene:
        run = command(scene, monkeypatch, capsys)
        status, out, err = await run(str(file))
        assert status == 1
        assert "line 2: not JSON" in err
        assert "line 3: path: '/nothing' is none of" in err
        assert "smart" in out
        status, _, err = await run(str(tmp_path / "missing"))
        assert (status, "No such file" in err) == (1, True)
        run = command(scene, monkeypatch, capsys, key="pushes")
        status, _, err = await run(str(file))
        assert (status, "lacks the scopes" in err) == (1, True)
    status, _, err = await run(str(file), "--url", "http://127.0.0.1:9")
    assert (status, "no answer from the broker" in err) == (3, True)

"""Answers of upstreams are judged as those of the pool are: counted, asked for once more elsewhere, and by breakers."""

import asyncio
import contextlib
import json
import logging

import pytest

from broker.access.principals import Scope
from tests.fakes.broker_scene import key_entry, until
from tests.fakes.cloud_scene import NEAR, SAID, SECRET, USAGE, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, QUICK, body_of, streamed
from tests.fakes.scripted_server import DONE, GOOD, STREAM_HEAD, chunk, stream, whole, word, word_of
from tests.integration.gateway.test_budgets import COST, settled
from tests.integration.gateway.test_useless_answers import BAD_STREAMS, BAD_WHOLES, ROLE, closed, delta, event, said

OUT = alias("out", "cloud/acme", "cloud/bolt", prefer="listed")
EMPTY = whole(json.dumps({"choices": [{"message": {"content": ""}}], "usage": USAGE}).encode())
STRICT = {"x-hotseat-validate": "strict"}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "required": ["age"]}}}


@contextlib.asynccontextmanager
async def clouds(tmp_path, of_acme, of_bolt, path: str = CHAT, **more):
    """Upstreams ``acme`` and ``bolt`` of the protocol that an address speaks, and a broker that leads there."""
    protocol = "anthropic" if path.endswith("/messages") else "openai"
    kind = {"offer": {"kind": "embedding"}} if path.endswith("/embeddings") else {}
    keys = (key_entry("k", Scope.LEASE, Scope.OBSERVE),)
    async with stub(*of_acme) as acme, stub(*of_bolt) as bolt:
        urls = {"acme": acme.url, "bolt": bolt.url}
        offers = [upstream(tmp_path, name, url, protocol=protocol, **kind) for name, url in urls.items()]
        config = routed(*offers, aliases=(OUT,), keys=keys, **more)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            yield acme, bolt, scene


def words(path: str, **more) -> dict[str, object]:
    """A request that an address understands."""
    if path.endswith(("/messages", "/chat/completions")):
        return body_of("out", **more)
    return {"model": "out", "prompt" if path.endswith("/completions") else "input": "hi", **more}


def judged_of(kinds, *, but: tuple[str, ...] = ("wrong_model",)):
    """Without what depends on names."""
    return [kind for kind in kinds if kind[2] not in but]


async def counted(scene, reason: str, model: str = "cloud/acme") -> float:
    text = (await scene.client.get("/metrics")).text
    line = f'hotseat_gateway_semantic_failures_total{{model="{model}",reason="{reason}",route="cloud"}} '
    return sum(float(row.removeprefix(line)) for row in text.splitlines() if row.startswith(line))


@pytest.mark.parametrize("path, bad, reason", judged_of(BAD_STREAMS))
async def test_a_stream_of_no_use_is_replaced_by_the_next_routes_bytes(tmp_path, path, bad, reason, caplog):
    caplog.set_level(logging.INFO)
    good = (word_of(path, "one"), word_of(path, "two"), DONE)
    async with clouds(tmp_path, [stream(*bad)], [stream(*good)], path) as (acme, bolt, scene):
        answer = await scene.client.post(path, json=words(path, stream=True))
        assert (answer.status_code, answer.content) == (200, b"".join(good))
        assert answer.headers["x-hotseat-model"] == "cloud/bolt"
        assert (len(acme.asked), len(bolt.asked)) == (1, 1)
        assert await counted(scene, reason) == 1
        line = closed(caplog)[0]
        assert (line["outcome"], line["retries"], line["answer"]) == ("served", 1, "fine")
        assert "my secret words" not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize("path, bad, reason", judged_of(BAD_WHOLES))
async def test_a_whole_answer_of_no_use_is_replaced_too(tmp_path, path, bad, reason):
    good = b'{"data": [{"embedding": [0.1]}]}' if path == "/v1/embeddings" else GOOD
    async with clouds(tmp_path, [whole(bad)], [whole(good)], path) as (acme, bolt, scene):
        answer = await scene.client.post(path, json=words(path))
        assert (answer.status_code, answer.content) == (200, good)
        assert (len(acme.asked), len(bolt.asked)) == (1, 1)
        assert await counted(scene, reason) == 1


async def test_where_there_is_no_next_route_the_same_is_asked_once_more_and_then_believed(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with stub(EMPTY, SAID, EMPTY) as cloud:
        keys = (key_entry("k", Scope.LEASE, Scope.OBSERVE),)
        async with routed_scene({"a": [NEAR]}, routed(upstream(tmp_path, "acme", cloud.url), keys=keys)) as scene:
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert answer.json()["choices"][0]["message"]["content"] == "far"
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "")
            assert len(cloud.asked) == 4
            assert await counted(scene, "empty") == 3
            assert [(line["retries"], line["answer"]) for line in closed(caplog)] == [(1, "fine"), (1, "empty")]


async def test_the_pools_model_takes_over_where_it_is_next(tmp_path):
    async with stub(EMPTY) as cloud:
        config = routed(
            upstream(tmp_path, "acme", cloud.url), aliases=(alias("first", "cloud/acme", "a", prefer="listed"),)
        )
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("first"))
            assert (answer.headers["x-hotseat-model"], answer.headers["x-hotseat-reason"]) == ("a", "fallback")
            assert len(cloud.asked) == 1
            await scene.all_given_back()


async def test_an_answer_is_thrown_away_once_whatever_the_routes(tmp_path):
    async with clouds(tmp_path, [EMPTY], [EMPTY]) as (acme, bolt, scene):
        answer = await scene.client.post(CHAT, json=body_of("out"))
        assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, "cloud/bolt")
        assert (len(acme.asked), len(bolt.asked)) == (1, 1)


async def test_what_a_client_has_seen_is_counted_and_never_tried_again(tmp_path):
    seen = [ROLE, delta(reasoning_content="hm"), delta(finish="length"), DONE]
    async with clouds(tmp_path, [stream(*seen)], [stream(word("one"), DONE)]) as (_, bolt, scene):
        answer = await streamed(scene, model="out")
        assert (answer.content, bolt.accepted) == (b"".join(seen), 0)
        assert await counted(scene, "only_reasoning") == 1


async def test_a_break_before_anything_could_be_seen_goes_to_the_next_route(tmp_path):
    broken = [STREAM_HEAD, chunk(ROLE), None]
    async with clouds(tmp_path, [broken], [stream(word("one"), DONE)]) as (acme, bolt, scene):
        answer = await streamed(scene, model="out")
        assert answer.content == word("one") + DONE
        assert (len(acme.asked), len(bolt.asked)) == (2, 1), "once more where it broke, as ever"


async def test_a_stream_that_had_keepalives_has_them_while_the_next_route_is_slow_too(tmp_path):
    async with clouds(tmp_path, [[0.3, *stream(ROLE, DONE)]], [[0.6, *stream(word("one"), DONE)]], gateway=QUICK) as (
        _,
        _bolt,
        scene,
    ):
        answer = await streamed(scene, model="out")
        assert answer.content.endswith(word("one") + DONE)
        assert ROLE not in answer.content
        assert answer.content.count(b'"delta":{}') >= 5


# ------------------------------------------------------------------------------------------ another's answer
@pytest.mark.parametrize(
    "offer, answered, wrong",
    [
        ({}, "who-knows", False),
        ({}, "acme-large-2026-01-31", False),
        ({}, "acme-small", True),
        ({}, "vendor/acme-small-2026-01-31", True),
        ({"answers_as": ["deployment-7"]}, "deployment-7", False),
        ({"answers_as": ["deployment-7"]}, "acme-large", False),
        ({"answers_as": ["deployment-7"]}, "who-knows", True),
    ],
)
async def test_another_model_is_known_by_its_name_as_far_as_names_are_known(tmp_path, offer, answered, wrong):
    async with stub(whole(said(model=answered, content="hi"))) as acme, stub(SAID) as bolt:
        of_acme = upstream(tmp_path, "acme", acme.url, offer=offer)
        small = {**of_acme["model"][0], "name": "cloud/small", "remote_name": "acme-small"}
        of_acme["model"].append(small)
        config = routed(of_acme, upstream(tmp_path, "bolt", bolt.url), aliases=(OUT,))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("out"))
            assert answer.headers["x-hotseat-model"] == ("cloud/bolt" if wrong else "cloud/acme")
            assert await counted(scene, "wrong_model") == wrong


# ------------------------------------------------------------------------------------------ the breaker
async def test_an_upstream_that_answers_badly_again_and_again_is_left_alone(tmp_path):
    async with clouds(tmp_path, [EMPTY], [SAID]) as (acme, bolt, scene):
        for _ in range(7):
            assert (await scene.client.post(CHAT, json=body_of("out"))).headers["x-hotseat-model"] == "cloud/bolt"
        assert (len(acme.asked), len(bolt.asked)) == (5, 7)


@pytest.mark.parametrize("bad", [EMPTY, whole(b"{}", status=500)])
async def test_one_sessions_bad_answers_take_an_upstream_from_nobody_else(tmp_path, bad):
    async with clouds(tmp_path, [bad], [SAID]) as (acme, _, scene):
        for _ in range(9):
            answer = await scene.client.post(CHAT, json=body_of("out"), headers={"x-hotseat-session": "one"})
            assert answer.headers["x-hotseat-model"] == "cloud/bolt"
        assert len(acme.asked) <= 6, "it is left alone by who has seen it fail"
        acme.scripts[:] = [SAID]
        answer = await scene.client.post(CHAT, json=body_of("out"), headers={"x-hotseat-session": "two"})
        assert answer.headers["x-hotseat-model"] == "cloud/acme"


async def test_a_budget_that_was_eaten_and_a_good_answer_are_no_failures_of_the_upstream(tmp_path):
    eaten = whole(said(content=None, reasoning_content="hm", finish="length"))
    async with clouds(tmp_path, [eaten], [SAID]) as (acme, _, scene):
        for _ in range(7):
            await scene.client.post(CHAT, json=body_of("out"))
        assert len(acme.asked) == 7
        acme.scripts[:] = [EMPTY, EMPTY, EMPTY, EMPTY, SAID, EMPTY, EMPTY, SAID]
        for _ in range(9):
            await scene.client.post(CHAT, json=body_of("out"))
        assert len(acme.asked) == 16


# ------------------------------------------------------------------------------------------ money
async def test_what_was_thrown_away_is_paid_for_and_in_the_days_report(tmp_path):
    async with clouds(tmp_path, [EMPTY], [SAID]) as (_, _, scene):
        await scene.client.post(CHAT, json=body_of("out"))
        await settled(scene, 2 * COST)
        metrics = (await scene.client.get("/metrics")).text
        await scene.broker.book.send()
        counts = (await scene.client.get("/report")).json()["counts"]

    def rows(kind: str) -> set[tuple[object, ...]]:
        return {(*row["labels"].values(), row["count"]) for row in counts[kind]}

    assert rows("tokens") == {
        ("cloud", f"cloud/{name}", kind, tokens)
        for name in ("acme", "bolt")
        for kind, tokens in (("prompt", 1000), ("completion", 100))
    }
    assert rows("costMicro") == {("acme", "cloud/acme", COST), ("bolt", "cloud/bolt", COST)}
    assert rows("semanticFailures") == {("cloud", "cloud/acme", "empty", 1)}
    assert rows("retries") == {("cloud/bolt", 1)}
    assert 'hotseat_gateway_tokens_total{kind="prompt",model="cloud/bolt",route="cloud"} 1000.0' in metrics


async def test_tokens_and_first_token_of_a_stream_are_in_the_report_too(tmp_path):
    counts = event(choices=[], usage=USAGE)
    async with clouds(tmp_path, [stream(word("one"), word("two"), counts, DONE)], [SAID]) as (_, _, scene):
        await streamed(scene, model="out")
        await settled(scene, COST)
        await scene.broker.book.send()
        report = (await scene.client.get("/report")).json()
    tokens = {(*row["labels"].values(), row["count"]) for row in report["counts"]["tokens"]}
    assert tokens == {("cloud", "cloud/acme", "prompt", 1000), ("cloud", "cloud/acme", "completion", 100)}
    assert report["times"]["firstToken"][-1]["labels"] == {"model": "cloud/acme"}
    assert report["times"]["firstByte"][-1]["labels"] == {"route": "cloud", "model": "cloud/acme"}
    assert "wait" not in report["times"], "there was no line"


async def test_no_second_try_is_made_that_the_budget_does_not_hold(tmp_path):
    async with stub(EMPTY) as cloud:
        keys = (key_entry("k", day_budget=0.005),)
        async with routed_scene({"a": [NEAR]}, routed(upstream(tmp_path, "acme", cloud.url), keys=keys)) as scene:
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            # 0.004 and something is reserved for the reply's room: 0.005 less 0.0014 does not hold it again.
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "budget_refused")
            assert len(cloud.asked) == 1
            await settled(scene, COST, "k")


# ------------------------------------------------------------------------------------------ private
@pytest.mark.parametrize("name", ["out", "cloud/acme"])
async def test_a_session_that_becomes_private_gets_no_second_answer_from_outside(tmp_path, name):
    async with clouds(tmp_path, [[0.5, *EMPTY], SAID], [SAID]) as (acme, bolt, scene):
        mine = {"x-hotseat-session": "mine"}
        first = asyncio.create_task(scene.client.post(CHAT, json=body_of(name), headers=mine))
        await until(lambda: acme.asked)
        secret = body_of("a", messages=[{"role": "user", "content": f"my token is {SECRET}"}])
        await scene.client.post(CHAT, json=secret, headers=mine)
        answer = await first
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "useless_answer")
        assert (len(acme.asked), bolt.accepted) == (1, 0)


# ------------------------------------------------------------------------------------------ checked output
def aged(text: str) -> list:
    return whole(json.dumps({"choices": [{"message": {"content": text}}], "usage": USAGE}).encode())


async def test_checked_output_of_an_upstream_is_asked_for_again_cooler(tmp_path):
    async with clouds(tmp_path, [aged("{}"), aged("no"), aged('{"age": 3}')], [SAID]) as (acme, bolt, scene):
        body = body_of("out", response_format=FORMAT, temperature=0.8)
        answer = await scene.client.post(CHAT, json=body, headers=STRICT)
        assert answer.json()["choices"][0]["message"]["content"] == '{"age": 3}'
        assert [json.loads(asked.body)["temperature"] for asked in acme.asked] == [0.8, 0.4, 0.2]
        assert {json.loads(asked.body)["model"] for asked in acme.asked} == {"acme-large"}
        assert acme.asked[0].header("x-hotseat-validate") is None
        assert await counted(scene, "schema") == 2
        await settled(scene, 3 * COST)
        assert bolt.accepted == 0


async def test_what_breaks_its_schema_to_the_end_never_reaches_the_client_and_no_other_route(tmp_path):
    async with clouds(tmp_path, [aged("{}")], [aged('{"age": 3}')]) as (acme, bolt, scene):
        answer = await scene.client.post(CHAT, json=body_of("out", response_format=FORMAT), headers=STRICT)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["attempts"]) == (422, "schema_violations", 4)
        assert (len(acme.asked), bolt.accepted) == (4, 0)
        for _ in range(2):  # a model that cannot keep a schema is no upstream that is down
            await scene.client.post(CHAT, json=body_of("out", response_format=FORMAT), headers=STRICT)
        assert len(acme.asked) == 12


async def test_checked_output_of_a_session_that_becomes_private_is_not_asked_for_again_outside(tmp_path):
    async with clouds(tmp_path, [[0.5, *aged("{}")], aged('{"age": 3}')], [SAID]) as (acme, bolt, scene):
        headers = STRICT | {"x-hotseat-session": "mine"}
        body = body_of("out", response_format=FORMAT)
        first = asyncio.create_task(scene.client.post(CHAT, json=body, headers=headers))
        await until(lambda: acme.asked)
        await scene.client.post(CHAT, json=body_of("a"), headers=headers | {"x-hotseat-private": "1"})
        answer = await first
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "schema_violations")
        assert (len(acme.asked), bolt.accepted) == (1, 0)

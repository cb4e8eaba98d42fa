"""Requests are routed by the table: names, variants, deadlines, fallbacks; and the headers say so truly."""

import asyncio
import json

from broker.access.principals import Scope
from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import key_entry
from tests.fakes.cloud_scene import NEAR, SAID, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, QUICK, body_of, streamed
from tests.fakes.scripted_server import DONE, STREAM_HEAD, chunk, stream, whole, word

LOCAL = alias("local", "a", "b")
AUTO = alias("auto", "a", "cloud/acme")
OUT = alias("out", "cloud/acme", "cloud/bolt", prefer="listed")


def served(answer) -> tuple[int, str, str, str]:
    headers = answer.headers
    return (
        answer.status_code,
        headers.get("x-hotseat-model", ""),
        headers.get("x-hotseat-route", ""),
        headers.get("x-hotseat-reason", ""),
    )


def code_of(answer) -> str:
    return answer.json()["error"]["code"]


# ---------------------------------------------------------------------------------------------------- names, variants
async def test_an_alias_is_served_by_its_model_which_hears_its_own_name():
    async with routed_scene({"a": [NEAR], "b": [NEAR]}, routed(aliases=(LOCAL,))) as scene:
        answer = await scene.client.post(CHAT, json=body_of("local"))
        assert served(answer)[:3] == (200, "a", "local")
        assert json.loads(scene.models["a"].asked[0].body) == body_of("a")
        assert served(await scene.client.post(CHAT, json=body_of("local"))) == (200, "a", "local", "warm")
        await scene.all_given_back()


async def test_of_a_family_the_variant_that_fits_the_memory_serves():
    models = (ModelEntry(name="q8", memory_mib=50_000), ModelEntry(name="q4", memory_mib=500))
    config = routed(models=models, family=[{"name": "big", "variants": ["q8", "q4"]}])
    async with routed_scene({"q8": [NEAR], "q4": [NEAR]}, config) as scene:
        assert served(await scene.client.post(CHAT, json=body_of("big"))) == (200, "q4", "local", "variant")


async def test_the_store_is_asked_once_about_what_stays_and_once_more_before_what_leaves(tmp_path, monkeypatch):
    async with stub(SAID) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), day_budget=1.0)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            asked: list[str] = []
            marks, accounts = scene.store.privacy_marks, scene.store.spending
            is_private, spent = marks.is_private, accounts.spent

            async def counted_marks(*args, **kwargs):
                asked.append("marks")
                await asyncio.sleep(0.01)  # meanwhile the other question is on its way
                asked.append("marks known")
                return await is_private(*args, **kwargs)

            async def counted_books(*args, **kwargs):
                asked.append("books")
                return await spent(*args, **kwargs)

            monkeypatch.setattr(marks, "is_private", counted_marks)
            monkeypatch.setattr(accounts, "spent", counted_books)
            assert served(await scene.client.post(CHAT, json=body_of("auto")))[1] == "a"
            assert asked == ["marks", "books", "marks known"]
            asked.clear()
            assert served(await scene.client.post(CHAT, json=body_of("cloud/acme")))[1] == "cloud/acme"
            assert asked == ["marks", "books", "marks known", "marks", "marks known"]


async def test_a_name_nobody_knows_is_not_found_in_each_protocol():
    async with routed_scene({"a": [NEAR]}, routed(aliases=(LOCAL,))) as scene:
        answer = await scene.client.post(CHAT, json=body_of("nobody"))
        assert (*served(answer), code_of(answer)) == (404, "", "refused", "unknown_model", "model_not_found")
        answer = await scene.client.post("/v1/messages", json=body_of("nobody", max_tokens=5))
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


async def test_the_list_of_models_has_aliases_and_upstream_models_for_whom_they_are(tmp_path):
    keys = (key_entry("all"), key_entry("near", models=("a",)))
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(LOCAL, AUTO), keys=keys)
        async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
            listed = {card["id"]: card["state"] for card in (await scene.client.get("/v1/models")).json()["data"]}
            assert set(listed) == {"a", "b", "diary", "local", "auto", "cloud/acme"}
            assert listed["cloud/acme"] == "remote"
            assert listed["auto"] == listed["a"]
            mine = (await scene.client.get("/v1/models", headers=scene.auth("near"))).json()["data"]
            assert {card["id"] for card in mine} == {"a", "local", "auto"}


async def test_a_key_for_some_models_gets_no_other_by_an_alias(tmp_path):
    keys = (key_entry("near", models=("b",)), key_entry("none", models=("zzz",)))
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(LOCAL, AUTO), keys=keys)
        async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
            assert served(await scene.client.post(CHAT, json=body_of("local")))[1] == "b"
            answer = await scene.client.post(CHAT, json=body_of("auto"))
            assert (answer.status_code, code_of(answer)) == (403, "not_allowed")
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"), headers=scene.auth("none"))
            assert answer.status_code == 403
            assert cloud.accepted == 0


# ------------------------------------------------------------------------------------------------------- to an upstream
async def test_an_upstream_gets_its_own_key_and_name_and_nothing_of_the_clients(tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), keys=(key_entry("k"),))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            headers = {"cookie": "c=1", "x-hotseat-session": "s", "x-secret": "1", "x-api-key": "mine"}
            answer = await scene.client.post(
                CHAT + "?token=1", json=body_of("cloud/acme", odd=[1]), headers=headers | {"traceparent": "00-1-1-01"}
            )
            assert served(answer) == (200, "cloud/acme", "cloud", "asked")
            assert "x-hotseat-lease" not in answer.headers
            assert answer.content == SAID[0].split(b"\r\n\r\n", 1)[1]
            (asked,) = cloud.asked
            assert asked.target == "/v1/chat/completions"
            assert json.loads(asked.body) == body_of("acme-large", odd=[1])
            names = {name for name, _ in asked.headers}
            assert names == {"host", "accept", "content-type", "user-agent", "authorization", "content-length"}
            assert asked.header("authorization") == "Bearer sk-acme"
            assert asked.header("user-agent") == "hotseat"


async def test_an_upstream_of_anthropics_gets_its_key_as_it_wants_it(tmp_path):
    said = b'{"type":"message","content":[{"type":"text","text":"far"}],"usage":{"input_tokens":3,"output_tokens":4}}'
    answer = whole(said)
    async with stub(answer) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url, protocol="anthropic"))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await scene.client.post("/v1/messages?beta=true", json=body_of("cloud/acme", max_tokens=5))
            assert served(answer)[:3] == (200, "cloud/acme", "cloud")
            (asked,) = cloud.asked
            assert (asked.target, asked.header("x-api-key")) == ("/v1/messages?beta=true", "sk-acme")
            assert asked.header("anthropic-version") == "2023-06-01"
            assert asked.header("authorization") is None
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert (*served(answer), code_of(answer)) == (400, "", "refused", "incapable", "incapable")


async def test_a_stream_of_an_upstream_is_passed_on_byte_by_byte(tmp_path):
    pieces = [b": odd\r\n\r\n", word("one"), word("two")[:9], word("two")[9:], DONE]
    async with stub(stream(*pieces, pause_s=0.02)) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await streamed(scene, model="cloud/acme")
            assert answer.content == b"".join(pieces)
            assert answer.headers["content-type"] == "text/event-stream"


async def test_a_slow_upstream_is_waited_for_with_keepalives_and_a_stream_may_still_change_hands(tmp_path):
    slow = [0.6, *whole(b"{}", status=503)]
    async with stub(slow) as cloud:
        config = routed(
            upstream(tmp_path, "acme", cloud.url, tries=1),
            aliases=(alias("first", "cloud/acme", "a", prefer="listed"),),
            gateway=QUICK,
        )
        async with routed_scene({"a": [stream(word("near"), DONE)]}, config) as scene:
            answer = await streamed(scene, model="first")
            assert answer.headers["x-hotseat-model"] == "cloud/acme", "as of the first keepalive"
            assert answer.content.endswith(word("near") + DONE)
            assert b"error" not in answer.content
            assert answer.content.count(b'"delta":{}') >= 2


async def test_an_upstream_that_breaks_off_in_the_middle_ends_the_stream_with_an_error(tmp_path):
    async with stub([STREAM_HEAD, chunk(word("one")), None]) as cloud, stub() as other:
        config = routed(upstream(tmp_path, "acme", cloud.url), upstream(tmp_path, "bolt", other.url), aliases=(OUT,))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await streamed(scene, model="out")
            assert answer.content.startswith(word("one"))
            assert b"upstream_broken" in answer.content
            assert other.accepted == 0


# ------------------------------------------------------------------------------------------------ capability, deadline
async def test_what_the_pools_model_cannot_answer_goes_out_and_what_nobody_can_is_refused(tmp_path):
    models = (ModelEntry(name="a", memory_mib=900, context_tokens=2000), ModelEntry(name="b", memory_mib=900))
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), models=models)
        async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
            assert served(await scene.client.post(CHAT, json=body_of("auto")))[1:3] == ("a", "local")
            long = body_of("auto") | {"messages": [{"role": "user", "content": "many words " * 1000}]}
            assert served(await scene.client.post(CHAT, json=long)) == (200, "cloud/acme", "cloud", "capability")
            longer = body_of("auto") | {"messages": [{"role": "user", "content": "many words " * 50_000}]}
            answer = await scene.client.post(CHAT, json=longer)
            assert (*served(answer), code_of(answer)) == (400, "", "refused", "too_long", "too_long")


async def test_a_request_leaves_the_line_at_its_deadline_and_keeps_nothing_there(tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url, expected_first_byte_s=0.1), aliases=(AUTO,))
        async with routed_scene({"a": [NEAR], "b": [[30.0]]}, config) as scene:
            assert (await scene.client.post(CHAT, json=body_of("auto"))).status_code == 200
            held = [await scene.lease(f"s{n}", "a") for n in range(2)]
            assert all(lease.json()["state"] == "active" for lease in held)
            headers = {"x-hotseat-deadline-s": "0.6"}
            answer = await scene.client.post(CHAT, json=body_of("auto"), headers=headers)
            assert served(answer) == (200, "cloud/acme", "cloud", "deadline")
            assert len(scene.leases("queued")) == 0
            patient = scene.client.post(CHAT, json=body_of("auto"), headers={"x-hotseat-deadline-s": "abc"})
            assert code_of(await patient) == "bad_argument"


# ------------------------------------------------------------------------------------------------------- when it fails
async def test_the_chain_goes_from_the_pool_over_the_upstreams_to_an_honest_error(tmp_path):
    broken = whole(b"{}", status=500)
    async with stub(broken) as acme, stub(SAID, broken) as bolt:
        config = routed(
            upstream(tmp_path, "acme", acme.url, tries=1),
            upstream(tmp_path, "bolt", bolt.url, tries=1),
            aliases=(alias("all", "a", "cloud/acme", "cloud/bolt"),),
        )
        async with routed_scene({"a": [[None]]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("all"))
            assert served(answer) == (200, "cloud/bolt", "cloud", "fallback")
            assert (len(scene.models["a"].asked), acme.accepted, bolt.accepted) == (2, 1, 1)
            answer = await scene.client.post(CHAT, json=body_of("all"))
            assert (answer.status_code, code_of(answer)) == (502, "upstream_error")
            assert "bolt answered 500" in answer.json()["error"]["message"]
            await scene.all_given_back()


async def test_a_busy_upstream_is_asked_again_when_it_said_and_a_wrong_request_is_the_clients(tmp_path):
    busy = [b"HTTP/1.1 429 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"]
    wrong = whole(b'{"error":{"message":"no such field"}}', status=400)
    async with stub(busy, SAID, wrong) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert served(answer) == (200, "cloud/acme", "cloud", "asked")
            assert answer.elapsed.total_seconds() >= 1.0
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert (answer.status_code, answer.content) == (400, b'{"error":{"message":"no such field"}}')
            assert len(cloud.asked) == 3


async def test_a_busy_upstreams_pause_is_told_to_the_client_when_nobody_else_serves(tmp_path):
    busy = [b"HTTP/1.1 429 X\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"]
    async with stub(busy) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert (answer.status_code, code_of(answer), answer.headers["retry-after"]) == (429, "upstream_busy", "30")
            assert len(cloud.asked) == 1, "30 s are not waited for"


async def test_an_upstream_that_fails_again_and_again_is_left_alone(tmp_path):
    async with stub(whole(b"{}", status=503)) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url, tries=1))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            for _ in range(5):
                assert code_of(await scene.client.post(CHAT, json=body_of("cloud/acme"))) == "upstream_error"
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert (*served(answer), code_of(answer)) == (503, "", "refused", "unavailable", "unavailable")
            assert answer.headers["retry-after"] == "5"
            assert len(cloud.asked) == 5


async def test_an_upstream_that_sends_us_elsewhere_is_not_followed(tmp_path):
    moved = [b"HTTP/1.1 307 X\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"]
    async with stub(moved) as cloud, stub() as other:
        config = routed(upstream(tmp_path, "acme", cloud.url), upstream(tmp_path, "bolt", other.url), aliases=(OUT,))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            assert served(await scene.client.post(CHAT, json=body_of("out")))[1] == "cloud/bolt"


async def test_series_tell_route_and_reason(tmp_path):
    keys = (key_entry("k", Scope.LEASE, Scope.OBSERVE),)
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), keys=keys)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            for name in ("cloud/acme", "auto", "nobody"):
                await scene.client.post(CHAT, json=body_of(name))
            text = (await scene.client.get("/metrics")).text
            await scene.broker.book.send()
            day = (await scene.client.get("/report")).json()
    for model, outcome, reason, route in (
        ("cloud/acme", "served", "asked", "cloud"),
        ("", "model_not_found", "unknown_model", "refused"),
    ):
        labels = f'model="{model}",outcome="{outcome}",path="/chat/completions",reason="{reason}",route="{route}"'
        assert f"hotseat_gateway_requests_total{{{labels}}} 1.0" in text
    assert 'hotseat_cloud_cost_total{model="cloud/acme",upstream="acme"} 0.0014' in text
    assert 'hotseat_estimated_savings_total{model="a"} 0.0014' in text
    routes = {(*row["labels"].values(),) for row in day["counts"]["requests"]}
    assert {("cloud", "asked"), ("refused", "unknown_model")} < routes
    assert day["counts"]["costMicro"] == [{"labels": {"upstream": "acme", "model": "cloud/acme"}, "count": 1400}]
    assert day["counts"]["savedMicro"] == [{"labels": {"model": "a"}, "count": 1400}]

"""Every answer has an id that its client can show and the operator finds in the log."""

import re

import pytest

from tests.fakes.broker_scene import config_of, key_entry, memory_scene
from tests.fakes.gateway_scene import CHAT, RawClient, body_of, gateway_scene
from tests.fakes.scripted_server import GOOD, whole

MADE = re.compile(r"req_[0-9a-f]{11,}")


def logged(caplog, request_id: str) -> list:
    return [record for record in caplog.records if getattr(record, "request_id", "") == request_id]


async def test_every_answer_has_an_id_of_its_own():
    seen = set()
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        client = scene.client
        answers = [
            await client.post(CHAT, json=body_of()),
            await client.post(CHAT, json=body_of("nobody")),
            await client.post(CHAT, content=b"{"),
            await client.get(CHAT),
            await client.get("/v1/models"),
            await client.get("/v1/nothing"),
            await client.get("/status"),
            await client.get("/nothing"),
            await client.head("/healthz"),
            await client.get("/metrics"),
            await client.post("/lease", json={"sessionKey": "s", "model": "a"}),
            await client.post("/lease", json={}),
            await client.post("/release", json={"sessionKey": "none", "model": "a"}),
            await client.delete("/lease/L1"),
            await client.get("/status", headers={"Host": "evil.example"}),
            await client.get("/status", headers={"Origin": "https://evil.example"}),
        ]
        for answer in answers:
            found = answer.headers.get_list("x-request-id")
            assert len(found) == 1, answer
            assert MADE.fullmatch(found[0])
            seen.add(found[0])
        assert len(seen) == len(answers)
        raw = await RawClient.to(scene.url)
        raw.writer.write(b"no http\r\n\r\n")
        assert MADE.fullmatch((await raw.head())[1]["x-request-id"])
        raw.close()


async def test_anthropics_clients_find_it_where_they_look():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        for answer in (
            await scene.client.post("/v1/messages", json=body_of()),
            await scene.client.post("/v1/messages", content=b"{"),
            await scene.client.get("/v1/models", headers={"anthropic-version": "2023-06-01"}),
        ):
            assert answer.headers["request-id"] == answer.headers["x-request-id"]
        assert "request-id" not in (await scene.client.get("/v1/models")).headers


async def test_a_sound_id_of_the_clients_is_kept_and_an_odd_one_is_not():
    async with memory_scene() as scene:
        for given, kept in (("abc-123_4.5", True), ("7f3a/b=", True), ("", False), ("a b", False), ("x" * 129, False)):
            answer = await scene.client.get("/healthz", headers={"x-request-id": given})
            assert (answer.headers["x-request-id"] == given) is kept


async def test_the_operator_finds_it_in_the_log(caplog):
    caplog.set_level("INFO")
    config = config_of(keys=(key_entry("one"),))
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        served = await scene.client.post(CHAT, json=body_of())
        unread = await scene.client.post(CHAT, content=b"{")
        unknown = await scene.client.post(CHAT, json=body_of(), headers={"Authorization": "Bearer no"})
        nothing = await scene.client.get("/nothing")
        ended = await scene.client.post("/renew", json={"leaseId": "L1", "nonce": "n"})
        page = await scene.client.get("/status", headers={"Sec-Fetch-Site": "cross-site"})
        await scene.all_given_back()
    for answer, event in (
        (served, "request_closed"),
        (unread, "request_closed"),
        (unknown, "request_refused"),
        (nothing, "request_refused"),
        (ended, "request_refused"),
        (page, "request_refused"),
    ):
        found = logged(caplog, answer.headers["x-request-id"])
        assert [record.getMessage() for record in found] == [event]
    assert logged(caplog, ended.headers["x-request-id"])[0].path == "/renew"


async def test_a_bug_is_found_in_the_log_by_it(caplog, monkeypatch):
    async with memory_scene() as scene:
        broken = scene.broker.services.store
        monkeypatch.setattr(type(broken), "hello", _raise, raising=True)
        monkeypatch.setattr(type(broken), "acquire", _raise, raising=True)
        for answer in (await scene.client.get("/status"), await scene.lease()):
            assert answer.status_code == 500
            assert "x-request-id" in answer.json()["detail"]
            found = logged(caplog, answer.headers["x-request-id"])
            assert "request_failed" in [record.getMessage() for record in found]


async def _raise(*_arguments, **_more):
    raise RuntimeError("broken")


async def test_the_model_servers_own_id_is_kept_under_another_name():
    head = b"HTTP/1.1 200 OK\r\nX-Request-Id: theirs\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
    async with gateway_scene({"a": [[head + GOOD]]}) as scene:
        answer = await scene.client.post(CHAT, json=body_of())
    assert MADE.fullmatch(answer.headers["x-request-id"])
    assert answer.headers["x-hotseat-upstream-request-id"] == "theirs"


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_sdks_show_it(sdk):
    made = pytest.importorskip(sdk)
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        if sdk == "openai":
            async with made.AsyncOpenAI(base_url=scene.url + "/v1", api_key="x", max_retries=0) as client:
                with pytest.raises(made.APIStatusError) as caught:
                    await client.chat.completions.create(model="nobody", messages=[])
        else:
            async with made.AsyncAnthropic(base_url=scene.url, api_key="x", max_retries=0) as client:
                with pytest.raises(made.APIStatusError) as caught:
                    await client.messages.create(model="nobody", messages=[], max_tokens=1)
    assert MADE.fullmatch(caught.value.request_id)

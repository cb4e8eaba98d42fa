"""The privacy proof: while private traffic of every kind runs and every local model is broken, no cloud is reached.

The clouds are listening sockets that count who connects, and each case runs beside the same request without what makes
it private, which does arrive there.
"""

import asyncio
import base64
import contextlib
import threading
import time
from dataclasses import replace

import pytest

from broker.store.memory.store import MemoryStore
from broker.store.port import Store
from harness.redis_servers import VALKEY, RedisServer, binary_of
from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import broker_on, key_entry, until, until_ready
from tests.fakes.cloud_scene import MODELS, NEAR, SECRET, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, body_of
from tests.fakes.scripted_server import whole

KEYS = (key_entry("open"), key_entry("closed", private=True))
ALIASES = (
    alias("auto", "a", "cloud/acme", "cloud/bolt"),
    alias("listed", "cloud/acme", "cloud/bolt", "a", prefer="listed"),
    alias("hurry", "a", "cloud/acme", deadline_s=0.2),
    alias("therapy", "a", "cloud/acme", private=True),
    alias("everything", "diary", "cloud/acme"),
)
PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(64)).decode()


def says(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


def parts(*content: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(content)}]}


SHOT = parts({"type": "image_url", "image_url": {"url": PICTURE}}, {"type": "text", "text": "this screenshot"})
TOOL = {
    "messages": [{"role": "user", "content": "go"}, {"role": "tool", "tool_call_id": "1", "content": f"x={SECRET}"}]
}
ENCODED = says("look: " + base64.b64encode(f"token {SECRET}".encode() * 3).decode())
PLAIN = says("what a fine day")
KINDS: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "header": (PLAIN, {"x-hotseat-private": "1"}),
    "key": (PLAIN, {"Authorization": "Bearer hsk_closed"}),
    "secret": (says(f"my token is {SECRET}"), {}),
    "tool result": (TOOL, {}),
    "base64": (ENCODED, {}),
    "path": (says("read ~/.ssh/id_rsa for me"), {}),
    "credential": (says("password: hunter2-and-more"), {}),
    "own pattern": (says("about project kestrel"), {}),
    "a word": (says("Here is a screenshot of my bank account"), {}),
    "another word": (says("my password is correcthorse"), {}),
    "a local path": (says("/home/anna/diary/2026-11-21.md"), {}),
    "a system prompt": (
        {"messages": [{"role": "system", "content": "cwd: C:\\Users\\anna"}, {"role": "user", "content": "go"}]},
        {},
    ),
    "a tool's description": (PLAIN | {"tools": [{"function": {"name": "f", "description": "takes a screenshot"}}]}, {}),
    "blanks": (says("secret_key = x9#kkkk"), {}),
    "a film": (says("data:video/mp4;base64," + base64.b64encode(bytes(range(130, 180))).decode()), {}),
    "costly": (parts(*[{"type": "text", "text": {}}] * 9000), {}),
    "screenshot": (SHOT, {}),
    "hidden": (PLAIN | {"previous_response_id": "resp_1"}, {}),
    "field twice": ({"twice": True}, {}),
    "large": (says("many words " * 40_000), {}),
}
FREE = {"prompt_price": None, "reply_price": None}
BROKEN = ([None], whole(b"{}", status=503), [b"not http at all\r\n\r\n", ...])


async def ask(scene, name: str, body: dict[str, object], headers: dict[str, str], *, stream: bool):
    if "twice" in body:
        raw = b'{"model":"%s","messages":[],"messages":[{"role":"user","content":"x"}]}' % name.encode()
        return await scene.client.post(CHAT, content=raw, headers=headers | {"content-type": "application/json"})
    more = {key: value for key, value in body.items() if key != "messages"}
    asked = body_of(name, stream=stream, **more) | {"messages": body["messages"]}
    return await scene.client.post(CHAT, json=asked, headers=headers)


@contextlib.asynccontextmanager
async def clouds(tmp_path, **more):
    async with stub() as acme, stub() as bolt:
        offers = [upstream(tmp_path, "acme", acme.url), upstream(tmp_path, "bolt", bolt.url)]
        config = routed(
            *offers, aliases=ALIASES, keys=KEYS, private_patterns=["(?i)project kestrel"], look_through_mib=0.3, **more
        )
        yield acme, bolt, config


@pytest.mark.parametrize("breakage", BROKEN, ids=["breaks off", "503", "no http"])
async def test_no_private_request_reaches_a_cloud_while_every_local_model_is_broken(tmp_path, breakage):
    many = (ModelEntry(name="a", memory_mib=900, lease_limit=200), *MODELS[1:])
    scripts = {"a": [breakage], "b": [breakage], "diary": [breakage]}
    async with clouds(tmp_path, models=many) as (acme, bolt, config), routed_scene(scripts, config) as scene:
        asked = [
            ask(scene, name, body, {"x-hotseat-session": f"{kind}/{name}"} | headers, stream=stream)
            for kind, (body, headers) in KINDS.items()
            for name in ("auto", "listed", "hurry", "cloud/acme")
            for stream in (False, True)
        ]
        by_name = ("therapy", "everything")
        asked += [ask(scene, name, PLAIN, {"x-hotseat-session": name}, stream=False) for name in by_name]
        answers = await asyncio.gather(*asked)
        assert acme.accepted == bolt.accepted == 0
        assert acme.asked == bolt.asked == []
        for answer in answers:
            assert answer.headers["x-hotseat-route"] in {"local", "refused"}
            assert answer.status_code != 200 or b"error" in answer.content
        # The control: the same names, and nothing private about it.
        for name in ("auto", "listed", "hurry", "cloud/acme"):
            answer = await ask(scene, name, PLAIN, {"x-hotseat-session": f"control/{name}"}, stream=False)
            assert (answer.status_code, answer.headers["x-hotseat-route"]) == (200, "cloud"), name
        assert acme.accepted + bolt.accepted >= 1


async def test_no_private_request_reaches_a_cloud_while_no_worker_serves(tmp_path):
    async with clouds(tmp_path) as (acme, bolt, config), broker_on(MemoryStore(clock=time.time), config) as scene:
        scene.client.headers["Authorization"] = "Bearer hsk_open"
        await until_ready(scene.client)
        asked = [
            ask(scene, "auto", body, {"x-hotseat-session": kind} | headers, stream=False)
            for kind, (body, headers) in KINDS.items()
        ]
        for answer in await asyncio.gather(*asked):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "private_refused")
            assert answer.headers["x-hotseat-reason"] == "private_refused"
        assert acme.accepted == bolt.accepted == 0
        assert (await ask(scene, "auto", PLAIN, {"x-hotseat-session": "control"}, stream=False)).status_code == 200
        assert acme.accepted == 1


async def test_a_session_that_was_private_once_stays_private_and_no_other_does(tmp_path):
    async with clouds(tmp_path) as (acme, _, config), routed_scene({"a": [[None]]}, config) as scene:
        mine = {"x-hotseat-session": "mine"}
        assert (await ask(scene, "cloud/acme", PLAIN, mine, stream=False)).status_code == 200
        assert acme.accepted == 1
        await ask(scene, "auto", KINDS["secret"][0], mine, stream=False)
        for name in ("cloud/acme", "auto", "listed"):
            assert (await ask(scene, name, PLAIN, mine, stream=False)).headers["x-hotseat-route"] != "cloud"
        assert len(acme.asked) == 1
        assert (await ask(scene, "cloud/acme", PLAIN, {"x-hotseat-session": "o"}, stream=False)).status_code == 200


@pytest.mark.parametrize(
    "kind, because",
    [
        ("a word", "word:screenshot"), ("another word", "word:password"), ("a local path", "local_path"),
        ("secret", "credential"), ("path", "path"), ("header", "header"), ("key", "key"), ("own pattern", "pattern"),
        ("a film", "hidden"), ("large", "large"), ("costly", "costly"), ("screenshot", "image"),
    ],
)  # fmt: skip
async def test_an_answer_and_a_refusal_say_why_a_request_is_private(tmp_path, kind, because):
    async with clouds(tmp_path) as (_, _, config), routed_scene({"a": [NEAR]}, config) as scene:
        body, headers = KINDS[kind]
        session = {"x-hotseat-session": kind}
        served = await ask(scene, "auto", body, session | headers, stream=False)
        assert (served.status_code, served.headers["x-hotseat-route"]) == (200, "local")
        assert served.headers["x-hotseat-private"] == because
        refused = await ask(scene, "cloud/acme", body, {"x-hotseat-session": "r"} | headers, stream=False)
        assert refused.headers["x-hotseat-private"] == because
        assert f"(private: {because})" in refused.json()["error"]["message"]
        again = await ask(scene, "auto", PLAIN, session, stream=False)
        of_another_key = kind == "key"  # what that one calls alike is another session
        assert again.headers.get("x-hotseat-private") == (None if of_another_key else "session")


@pytest.mark.parametrize(
    "indicators, text, leaves",
    [
        ("owner", "a screenshot", False), ("owner", "see /etc/hosts/x", True), ("strict", "see /etc/hosts/x", False),
        ("off", "a screenshot in /home/anna/x", True), ("off", "password: hunter22", False),
    ],
)  # fmt: skip
async def test_which_words_keep_a_request_here_is_configured(tmp_path, indicators, text, leaves):
    async with clouds(tmp_path, indicators=indicators) as (_, _, config), routed_scene({"a": [NEAR]}, config) as scene:
        answer = await ask(scene, "cloud/acme", says(text), {}, stream=False)
        assert answer.status_code == (200 if leaves else 503)


async def test_a_session_is_one_however_its_id_is_written(tmp_path):
    async with clouds(tmp_path) as (acme, _, config), routed_scene({"a": [NEAR]}, config) as scene:
        await ask(scene, "auto", KINDS["secret"][0], {"x-hotseat-session": "Agent:Main"}, stream=False)
        for written in ("agent:main", "AGENT:MAIN", "agent: main", "agent:\tmain"):
            answer = await ask(scene, "cloud/acme", PLAIN, {"x-hotseat-session": written}, stream=False)
            assert answer.status_code == 503, written
        long = "Long id " * 100
        await ask(scene, "auto", KINDS["secret"][0] | {"prompt_cache_key": long}, {}, stream=False)
        answer = await ask(scene, "cloud/acme", PLAIN | {"prompt_cache_key": long.upper() + " "}, {}, stream=False)
        assert answer.status_code == 503
        assert acme.accepted == 0


async def test_a_private_request_may_go_to_a_server_of_ones_own_and_nowhere_else(tmp_path):
    async with stub() as acme, stub() as own:
        laptop = upstream(tmp_path, "laptop", own.url, inside=True, api_key_file=None, offer=FREE)
        names = (alias("home", "a", "cloud/laptop", "cloud/acme"), alias("far", "cloud/acme", "cloud/laptop"))
        config = routed(upstream(tmp_path, "acme", acme.url), laptop, aliases=names, keys=KEYS, day_budget=0.0)
        async with broker_on(MemoryStore(clock=time.time), config) as scene:
            scene.client.headers["Authorization"] = "Bearer hsk_open"
            await until_ready(scene.client)
            for name in ("home", "far", "cloud/laptop"):
                answer = await ask(scene, name, KINDS["secret"][0], {"x-hotseat-session": "mine"}, stream=False)
                assert (answer.status_code, answer.headers["x-hotseat-route"]) == (200, "inside"), name
                assert answer.headers["x-hotseat-model"] == "cloud/laptop"
            assert answer.headers["x-hotseat-reason"] == "asked"
            assert acme.accepted == 0
            assert [asked.header("authorization") for asked in own.asked] == [None] * 3
            assert all(SECRET.encode() in asked.body for asked in own.asked)
            answer = await ask(scene, "cloud/acme", PLAIN, {"x-hotseat-session": "mine"}, stream=False)
            assert answer.json()["error"]["code"] == "private_refused"


async def test_a_server_of_ones_own_that_fails_too_often_is_left_alone_and_nothing_private_leaves_instead(tmp_path):
    async with stub() as acme, stub(whole(b"{}", status=503)) as own:
        laptop = upstream(tmp_path, "laptop", own.url, inside=True, tries=1)
        names = (alias("home", "cloud/laptop", "cloud/acme", prefer="listed"),)
        config = routed(upstream(tmp_path, "acme", acme.url), laptop, aliases=names)
        async with broker_on(MemoryStore(clock=time.time), config) as scene:
            await until_ready(scene.client)
            codes = []
            for _ in range(7):
                answer = await ask(scene, "home", KINDS["secret"][0], {"x-hotseat-session": "mine"}, stream=False)
                codes.append(answer.json()["error"]["code"])
            assert codes == ["upstream_error"] * 5 + ["private_refused"] * 2
            assert (len(own.asked), acme.accepted) == (5, 0)
            answer = await ask(scene, "home", PLAIN, {"x-hotseat-session": "other"}, stream=False)
            assert (answer.status_code, acme.accepted) == (200, 1)


async def test_while_the_store_cannot_tell_a_server_of_ones_own_still_serves(tmp_path):
    async with stub() as acme, stub() as own:
        laptop = upstream(tmp_path, "laptop", own.url, inside=True, offer=FREE)
        names = (alias("home", "cloud/acme", "cloud/laptop", prefer="listed"),)
        config = routed(upstream(tmp_path, "acme", acme.url), laptop, aliases=names)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            scene.store.privacy_marks.is_private = away
            answer = await ask(scene, "home", PLAIN, {"x-hotseat-session": "mine"}, stream=False)
            assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, "cloud/laptop")
            assert acme.accepted == 0


async def test_a_header_that_is_sent_twice_does_not_take_back_that_a_request_is_private(tmp_path):
    async with clouds(tmp_path) as (acme, _, config), routed_scene({"a": [NEAR]}, config) as scene:
        for words in (("1", "0"), ("0", "1"), ("0", "0"), ("", "no")):
            said = [("x-hotseat-session", "/".join(words)), *(("X-Hotseat-Private", word) for word in words)]
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"), headers=said)
            assert (answer.status_code, answer.headers["x-hotseat-route"]) == (503, "refused"), words
        assert acme.accepted == 0
        once = {"x-hotseat-session": "control", "X-Hotseat-Private": "0"}
        assert (await ask(scene, "cloud/acme", PLAIN, once, stream=False)).status_code == 200


async def proves_that_marks_outlive_a_broker(store: Store, after: Store, tmp_path) -> None:
    async with clouds(tmp_path) as (acme, _, config):
        mine = {"x-hotseat-session": "mine", "Authorization": "Bearer hsk_open"}
        async with broker_on(store, config) as scene:
            await until_ready(scene.client)
            assert (await ask(scene, "cloud/acme", KINDS["secret"][0], mine, stream=False)).status_code == 503
        async with broker_on(after, config) as scene:
            await until_ready(scene.client)
            answer = await ask(scene, "cloud/acme", PLAIN, mine, stream=False)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "private_refused")
            assert acme.accepted == 0
            other = mine | {"x-hotseat-session": "other"}
            assert (await ask(scene, "cloud/acme", PLAIN, other, stream=False)).status_code == 200


async def test_nobody_makes_another_keys_session_private(tmp_path):
    keys = (key_entry("one"), key_entry("two"))
    async with stub() as acme:
        config = routed(upstream(tmp_path, "acme", acme.url), keys=keys)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            for name in ("s", "two", "two@127.0.0.1"):
                said = {"x-hotseat-session": name, **scene.auth("one")}
                assert (await ask(scene, "a", KINDS["secret"][0], said, stream=False)).status_code == 200
            for named in ({"x-hotseat-session": "s"}, {}):
                asked = await ask(scene, "cloud/acme", PLAIN, named | scene.auth("two"), stream=False)
                assert asked.headers["x-hotseat-route"] == "cloud"
            again = await ask(scene, "cloud/acme", PLAIN, {"x-hotseat-session": "s", **scene.auth("one")}, stream=False)
            assert again.headers["x-hotseat-route"] == "refused"


async def test_a_private_session_stays_private_over_a_restart_of_the_broker(tmp_path):
    store = MemoryStore(clock=time.time)
    await proves_that_marks_outlive_a_broker(store, store, tmp_path)


@pytest.mark.redis
async def test_a_private_session_stays_private_over_a_restart_in_a_real_store(tmp_path):
    if binary_of(VALKEY) is None:
        pytest.skip("no valkey-server on this machine")
    from broker.store.redis.store import RedisStore  # noqa: PLC0415

    server = RedisServer(VALKEY).start()
    try:
        await proves_that_marks_outlive_a_broker(
            RedisStore.connect(server.url), RedisStore.connect(server.url), tmp_path
        )
    finally:
        server.close()


async def test_a_session_that_becomes_private_meanwhile_gets_no_second_try_outside(tmp_path):
    async with stub([0.5, *whole(b"{}", status=503)]) as acme, stub() as bolt:
        config = routed(
            upstream(tmp_path, "acme", acme.url, tries=2),
            upstream(tmp_path, "bolt", bolt.url),
            aliases=(alias("out", "cloud/acme", "cloud/bolt", prefer="listed"),),
        )
        async with routed_scene({"a": [NEAR]}, config) as scene:
            mine = {"x-hotseat-session": "mine"}
            first = asyncio.create_task(ask(scene, "out", PLAIN, mine, stream=False))
            await until(lambda: acme.asked)
            await ask(scene, "a", KINDS["secret"][0], mine, stream=False)
            assert (await first).status_code == 502
            assert (len(acme.asked), bolt.accepted) == (1, 0)


@pytest.mark.parametrize("name", ["auto", "cloud/acme"])
async def test_while_the_store_cannot_tell_nothing_leaves_and_nothing_is_remembered(tmp_path, name):
    async with clouds(tmp_path) as (acme, bolt, config), routed_scene({"a": [NEAR]}, config) as scene:
        marks, mine = scene.store.privacy_marks, {"x-hotseat-session": "mine"}
        scene.store.privacy_marks.is_private = away
        answer = await ask(scene, name, PLAIN, mine, stream=False)
        assert answer.headers["x-hotseat-route"] == ("local" if name == "auto" else "refused")
        assert answer.headers["x-hotseat-private"] == "unsettled"
        assert acme.accepted == bolt.accepted == 0
        del marks.is_private
        assert (await ask(scene, "cloud/acme", PLAIN, mine, stream=False)).status_code == 200


async def test_a_private_request_is_served_only_when_its_mark_is_in_the_store(tmp_path):
    async with clouds(tmp_path) as (_, _, config), routed_scene({"a": [NEAR]}, config) as scene:
        scene.store.privacy_marks.mark_private = away
        answer = await ask(scene, "auto", KINDS["secret"][0], {}, stream=False)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
        assert scene.models["a"].asked == []


async def away(*_: object, **__: object) -> bool:
    from broker.core.errors import StoreUnavailableError  # noqa: PLC0415

    raise StoreUnavailableError("away")


async def test_while_bodies_are_looked_through_others_are_served_and_one_at_a_time_is(tmp_path, monkeypatch):
    gate, inside, most = threading.Event(), [0], [0]

    def slow(text: str) -> bool:
        if "slow" in text:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            gate.wait(10)
            inside[0] -= 1
        return False

    monkeypatch.setattr("broker.app.open_scanner", lambda: slow)
    async with clouds(tmp_path) as (_, _, config), routed_scene({"a": [NEAR]}, config) as scene:
        slowly = says("slow words " * 2000)
        looked = [asyncio.create_task(ask(scene, "auto", slowly, {}, stream=False)) for _ in range(3)]
        await until(lambda: inside[0])
        assert (await asyncio.wait_for(ask(scene, "auto", PLAIN, {}, stream=False), 30)).status_code == 200
        assert (await asyncio.wait_for(scene.client.get("/healthz"), 30)).status_code == 200
        assert not any(task.done() for task in looked)
        gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*looked)] == [200, 200, 200]
        assert most == [1]


async def test_without_upstreams_no_content_is_looked_at(monkeypatch):
    def looked(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("broker.routing.request.contents.content_of", looked)
    config = replace(routed(aliases=(alias("auto", "a"),)), models=MODELS)
    async with routed_scene({"a": [NEAR]}, config) as scene:
        answer = await ask(scene, "auto", KINDS["secret"][0], {"x-hotseat-private": "1"}, stream=False)
        assert answer.status_code == 200
        assert scene.store.privacy_marks._private == {}

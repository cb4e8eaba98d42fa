"""A page of somebody else's in the user's browser can do nothing here; one that is wanted can use the broker."""

import asyncio
import json

import httpx
import pytest

from broker.access.principals import Scope
from broker.app import openapi_document
from tests.fakes.broker_scene import config_of, key_entry, memory_scene
from tests.fakes.gateway_scene import CHAT, body_of, gateway_scene
from tests.fakes.scripted_server import DONE, GOOD, stream, whole, word

EVIL = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
PAGE = {"Origin": "http://localhost:5173", "Sec-Fetch-Site": "same-site"}
PAGES = config_of(broker={"cors_origins": ("http://localhost:5173",)})
ROUTES = [
    (method.upper(), path.replace("{slot}", "gpu0").replace("{action}", "drain").replace("{lease_id}", "L1"))
    for path, item in openapi_document()["paths"].items()
    for method in item
]
OTHERS = [
    ("POST", CHAT),
    ("POST", "/chat/completions"),
    ("GET", "/v1/models"),
    ("GET", "/openapi.json"),
    ("GET", "/no"),
]
BODIES = {
    "/lease": {"sessionKey": "s", "model": "a"},
    "/activity": {"sessionKey": "s", "model": "a"},
    CHAT: body_of(),
    "/chat/completions": body_of(),
}
WAYS = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Host": "evil.example:4687"},
    {"Host": "evil.example:4687", "Origin": "http://evil.example:4687", "Sec-Fetch-Site": "same-origin"},
]


@pytest.mark.parametrize("keys", [(), (key_entry("root", Scope.ADMIN),)])
async def test_a_foreign_page_can_do_nothing_and_read_nothing_with_any_method_anywhere(keys):
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(keys=keys)) as scene:
        before = await scene.store.last_event_id()
        for method, path in ROUTES + OTHERS:
            for way in WAYS:
                for kind in ("application/json", "text/plain"):
                    body = json.dumps(BODIES.get(path, {})).encode()
                    headers = {"Content-Type": kind, **way}
                    answer = await scene.client.request(method, path, content=body, headers=headers)
                    assert answer.status_code == (421 if "Host" in way else 403), (method, path, way)
                    assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert await scene.store.last_event_id() == before
        assert scene.models["a"].asked == []
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200


async def test_refusals_are_told_in_the_clients_own_protocol_with_what_to_set():
    async with memory_scene() as scene:
        page = await scene.client.post("/lease", json={}, headers=EVIL)
        assert page.headers["content-type"] == "application/problem+json"
        assert page.json()["code"] == "foreign_page"
        openai = (await scene.client.post(CHAT, json={}, headers=EVIL)).json()["error"]
        assert (openai["code"], openai["type"]) == ("foreign_page", "permission_error")
        assert "https://evil.example" in openai["message"]
        assert "cors_origins" in openai["message"]
        claude = (await scene.client.post("/v1/messages", json={}, headers=EVIL)).json()
        assert (claude["type"], claude["error"]["type"]) == ("error", "permission_error")
        host = await scene.client.get("/status", headers={"Host": "gpu.example.org"})
        assert host.json()["code"] == "foreign_host"
        assert "gpu.example.org" in host.json()["detail"]
        assert "HOTSEAT_BROKER_HOSTS" in host.json()["detail"]
        head = await scene.client.head("/status", headers=EVIL)
        assert (head.status_code, head.content) == (403, b"")


async def test_a_flood_of_refusals_is_a_few_lines_in_the_log(caplog):
    async with memory_scene() as scene:
        for _ in range(100):
            await scene.client.get("/status", headers=EVIL)
        lines = [record for record in caplog.records if record.getMessage() == "request_refused"]
        assert 1 <= len(lines) <= 20
        assert lines[0].code == "foreign_page"
        assert lines[0].about == "https://evil.example"
        counted = (await scene.client.get("/metrics")).text
        assert 'hotseat_http_requests_total{route="refused",status="403"} 100.0' in counted


async def test_a_broker_serves_under_the_names_that_it_was_given():
    async with memory_scene(config_of(broker={"hosts": ("gpu.example.org", "*.ts.net")})) as scene:
        for host, status in (("gpu.example.org", 200), ("a.tail1.ts.net:4687", 200), ("other.example.org", 421)):
            assert (await scene.client.get("/status", headers={"Host": host})).status_code == status
        assert (await scene.client.get("/status", headers={"Host": "127.0.0.1:4687"})).status_code == 200


async def test_no_page_is_wanted_unless_it_is_listed():
    async with memory_scene() as scene:
        asked = {**PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        answer = await scene.client.options(CHAT, headers=asked)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/lease", "/lease/L1", "/status", "/no", "/v1/no"])
async def test_a_wanted_page_may_ask_and_read_whatever_it_is_answered(path):
    async with memory_scene(PAGES) as scene:
        wish = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
            "Access-Control-Request-Private-Network": "true",
        }
        asked = await scene.client.options(path, headers=PAGE | wish)
        assert (asked.status_code, asked.content) == (204, b"")
        assert asked.headers["access-control-allow-origin"] == PAGE["Origin"]
        assert asked.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
        assert asked.headers["access-control-allow-private-network"] == "true"
        for method in ("GET", "POST", "DELETE"):
            assert method in asked.headers["access-control-allow-methods"]
            answer = await scene.client.request(method, path, json={} if method == "POST" else None, headers=PAGE)
            assert answer.headers.get_list("access-control-allow-origin") == [PAGE["Origin"]]
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
            assert answer.headers["vary"] == "Origin"


async def test_what_a_model_server_says_of_pages_does_not_count():
    head = [b"Access-Control-Allow-Origin: *", b"Access-Control-Allow-Credentials: true", b"Set-Cookie: a=b"]
    script = [b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(head) + b"\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD]
    async with gateway_scene({"a": [script]}, PAGES) as scene:
        plain = await scene.client.post(CHAT, json=body_of())
        page = await scene.client.post(CHAT, json=body_of(), headers=PAGE)
    assert (plain.status_code, page.status_code) == (200, 200)
    assert not [name for name in plain.headers if name.startswith(("access-control-", "set-cookie"))]
    assert page.headers.get_list("access-control-allow-origin") == [PAGE["Origin"]]
    assert "access-control-allow-credentials" not in page.headers


async def test_a_wanted_page_streams():
    async with gateway_scene({"a": [stream(word("one"), word("two"), DONE)]}, PAGES) as scene:
        async with scene.client.stream("POST", CHAT, json=body_of(stream=True), headers=PAGE) as answer:
            said = b"".join([piece async for piece in answer.aiter_raw()])
        assert answer.headers["access-control-allow-origin"] == PAGE["Origin"]
        assert said == word("one") + word("two") + DONE


async def test_a_wanted_page_without_a_key_is_no_operator_and_owns_nobody_elses_lease():
    async with memory_scene(PAGES) as scene:
        mine = (await scene.lease(wait=20)).json()
        slots = [f"/slots/gpu0/{action}" for action in ("cordon", "drain", "uncordon", "heal")]
        for path in [*slots, *(f"/models/b/{action}" for action in ("on", "load", "unload"))]:
            answer = await scene.client.post(path, headers=PAGE)
            assert answer.status_code == 403
            assert "web page" in answer.json()["detail"]
        assert (await scene.client.delete(f"/lease/{mine['leaseId']}", headers=PAGE)).status_code == 404
        body = {"leaseId": mine["leaseId"], "nonce": mine["nonce"]}
        assert (await scene.client.post("/release", json=body, headers=PAGE)).status_code == 404
        assert (await scene.lease("page", headers=PAGE, wait=20)).status_code == 201
        assert (await scene.client.get("/status", headers=PAGE)).status_code == 200


async def test_a_wanted_page_with_a_key_may_do_what_its_key_may():
    keys = (key_entry("one"), key_entry("op", Scope.OPERATE))
    async with memory_scene(config_of(keys=keys, broker={"cors_origins": ("*",)})) as scene:
        path = "/slots/gpu0/cordon"
        for headers, status in (
            ({}, 401),
            (scene.auth("one"), 403),
            (scene.auth("op"), 204),
        ):
            answer = await scene.client.post(path, headers=EVIL | headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == EVIL["Origin"]


@pytest.mark.parametrize("section", [{"hosts": ("*",)}, {"cors_origins": ("*",)}])
def test_an_anonymous_broker_cannot_be_opened_to_every_page(section):
    with pytest.raises(ValueError, match="every web page"):
        config_of(broker=section)


async def test_curl_and_sdks_are_no_pages():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        for headers in (
            {"User-Agent": "curl/8.0"},
            {"Sec-Fetch-Mode": "cors", "User-Agent": "node"},
            {"Sec-Fetch-Site": "none"},
            {"Host": "localhost:4687"},
            {"Host": "broker:4687"},
            {"Host": "x"},
        ):
            assert (await scene.client.post(CHAT, json=body_of(), headers=headers)).status_code == 200
        untyped = await scene.client.post(CHAT, content=json.dumps(body_of()).encode())
        assert untyped.status_code == 200, "many small clients say nothing of the type"
        drained = await scene.client.post("/slots/gpu0/drain")
        assert drained.status_code == 204
    async with memory_scene() as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(scene.url.rsplit(":", 1)[1]))
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 200 " in await reader.readline(), "a balancer's probe without Host"
        writer.close()


async def test_a_websocket_probe_is_told_to_turn_to_http_and_the_connection_lives_on():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        probe = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "x",
        }
        for path in ("/v1/responses", "/v1/realtime", "/events"):
            answer = await scene.client.get(path, headers=probe)
            assert answer.status_code == 426
            assert answer.headers["upgrade"] == "HTTP/1.1"
            assert "HTTP" in answer.text
        posted = await scene.client.post(CHAT, json=body_of(), headers=probe)
        assert posted.status_code == 426
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200
        assert (await scene.client.get("/v1/responses", headers=probe | EVIL)).status_code == 403


async def test_two_connections_are_told_apart():
    """An answer's page headers belong to its request alone."""
    async with memory_scene(PAGES) as scene, httpx.AsyncClient(base_url=scene.url) as other:
        page, plain = await asyncio.gather(scene.client.get("/healthz", headers=PAGE), other.get("/healthz"))
        again = await scene.client.get("/healthz")
        assert "access-control-allow-origin" in page.headers
        assert "access-control-allow-origin" not in plain.headers
        assert "access-control-allow-origin" not in again.headers

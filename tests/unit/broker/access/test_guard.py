"""Names, origins, and what is let in."""

import pytest

from broker.access import host_names, origins
from broker.access.guard import EXPOSED, LET_IN, Guard
from broker.access.host_names import Names
from broker.access.origins import Origins
from broker.http_server.base_urls import below_v1, is_meant

OWN = [
    "127.0.0.1",
    "127.0.0.1:4687",
    "127.0.0.2:80",
    "[::1]:4687",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]:4687",
    "localhost",
    "LocalHost:1234",
    "localhost.:4687",
    "chat.localhost:4687",
    "0.0.0.0:4687",
    "broker:4687",
    "x",
    "gpu_box",
    "host.docker.internal:4687",
    "gpu-host.local",
    "gpu-host",
]
FOREIGN = [
    "evil.example",
    "evil.example:4687",
    "EVIL.example.:80",
    "127.0.0.1.nip.io",
    "localhost.evil.example",
    "evil.localhost.example",
    "internal.example",
    "xinternal.example",
    "evil.xinternal",
    "evil.xlocalhost",
    "other.local",
    "93.184.216.34",
    "192.168.1.5:4687",
    "[2001:db8::1]",
    "0x7f.1",
    "",
    " ",
    ":4687",
    "a@127.0.0.1",
    "127.0.0.1:x",
    "127.0.0.1:80:80",
    "127.0.0.1/x",
    "[::1",
    "[::1]x",
    "[evil]",
    "a..b",
    "a b",
    "ev\xedl",
    "localhost\x00.evil.example",
]


@pytest.fixture
def local() -> Names:
    return Names(host="127.0.0.1", machine="gpu-host")


@pytest.mark.parametrize("host", OWN)
def test_a_name_that_no_stranger_can_own_is_taken_for_the_brokers(local, host):
    for _ in range(2):
        assert local.has(host.encode("latin-1"))


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_a_stranger_can_own_is_not(local, host):
    assert not local.has(host.encode("latin-1"))


def test_the_configured_names_are_the_brokers_too():
    known = Names(host="gpu.lan", listed=("hotseat.example.org", "*.ts.net", "10.0.0.5", "fd00::5"))
    for host in (b"gpu.lan", b"hotseat.example.org:443", b"gpu.tail1234.ts.net", b"10.0.0.5:4687", b"[fd00::5]"):
        assert known.has(host)
    for host in (
        b"example.org",
        b"evil.hotseat.example.org",
        b"ts.net.evil.example",
        b"hotseat.example.org.evil.example",
    ):
        assert not known.has(host)
    assert Names(host="127.0.0.1", listed=("*",)).has(b"evil.example")
    assert not Names(host="127.0.0.1", listed=("*",)).has(b"a@b")


def test_a_broker_that_listens_beyond_loopback_takes_any_address_and_no_other_name():
    known = Names(host="0.0.0.0")
    for host in (b"192.168.1.5:4687", b"93.184.216.34", b"[2001:db8::1]:4687", b"broker"):
        assert known.has(host)
    assert not known.has(b"evil.example")


def test_only_so_many_spellings_are_remembered(local):
    for port in range(3 * host_names.MAX_KNOWN):
        assert local.has(b"localhost:%d" % port)
    assert len(local.known) <= host_names.MAX_KNOWN


@pytest.mark.parametrize(
    "name, kept",
    [
        ("GPU.example.org", "gpu.example.org"),
        ("a.b:4687", "a.b"),
        ("*.ts.net", "*.ts.net"),
        ("*", "*"),
        ("::1", "::1"),
        ("[::1]:80", "::1"),
    ],
)
def test_a_configured_name_is_kept_as_it_is_compared(name, kept):
    assert host_names.sound(name) == kept


@pytest.mark.parametrize("name", ["http://a.b", "a.b/c", "a b", "", "*.*.b", "a.*", "x@y"])
def test_what_can_be_no_name_is_refused(name):
    with pytest.raises(ValueError, match="is no name of a host"):
        host_names.sound(name)


WANTED = Origins(
    (
        "https://chat.example.org",
        "http://localhost:5173",
        "http://127.0.0.1:*",
        "https://*.apps.example.org",
        "vscode-webview://*",
        "chrome-extension://abcdef",
    )
)


@pytest.mark.parametrize(
    "origin",
    [
        b"https://chat.example.org",
        b"http://localhost:5173",
        b"http://127.0.0.1",
        b"http://127.0.0.1:8080",
        b"https://a.apps.example.org",
        b"https://a.b.apps.example.org",
        b"vscode-webview://0k2h3",
        b"chrome-extension://abcdef",
    ],
)
def test_listed_origins_are_wanted(origin):
    for _ in range(2):
        assert WANTED.wants(origin)


@pytest.mark.parametrize(
    "origin",
    [
        b"null",
        b"",
        b"https://evil.example",
        b"http://chat.example.org",
        b"https://chat.example.org:8443",
        b"https://chat.example.org.evil.example",
        b"https://chat-example.org",
        b"https://apps.example.org",
        b"https://evil.example/.apps.example.org",
        b"https://evil.example#.apps.example.org",
        b"http://localhost:51730",
        b"http://localhost",
        b"http://127.0.0.1:80@evil.example",
        b"chrome-extension://abcdefg",
        b"file://",
    ],
)
def test_other_origins_are_not(origin):
    assert not WANTED.wants(origin)
    assert not Origins().wants(origin)


def test_a_star_wants_every_origin():
    for origin in (b"https://evil.example", b"null", b"app://obsidian.md"):
        assert Origins(("*",)).wants(origin)


@pytest.mark.parametrize(
    "origin, kept",
    [
        ("HTTPS://Chat.Example.org/", "https://chat.example.org"),
        ("https://a.b:443", "https://a.b"),
        ("http://a.b:80", "http://a.b"),
        ("http://a.b:443", "http://a.b:443"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("*", "*"),
        ("tauri://localhost", "tauri://localhost"),
    ],
)
def test_a_configured_origin_is_kept_as_browsers_write_it(origin, kept):
    assert origins.sound(origin) == kept


@pytest.mark.parametrize(
    "origin", ["null", "chat.example.org", "https://a.b/c", "https://*", "http://*:80", "", "a://b c"]
)
def test_what_names_no_origin_is_refused(origin):
    with pytest.raises(ValueError, match=r"origin|every page"):
        origins.sound(origin)


HERE = {b"host": b"127.0.0.1:4687"}
PLAIN = Guard(Names(), Origins())
OPEN = Guard(Names(), WANTED)
PATHS = [
    "/",
    "/status",
    "/lease",
    "/slots/gpu0/drain",
    "/models/a/off",
    "/v1/chat/completions",
    "/v1/audio/transcriptions",
    "/mcp",
    "/events",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "said",
    [
        {b"origin": b"https://evil.example"},
        {b"origin": b"null"},
        {b"origin": b""},
        {b"origin": b"http://127.0.0.1:3000"},
        {b"origin": b"http://localhost:4687"},
        {b"origin": b"https://evil.example", b"sec-fetch-site": b"same-origin"},
        {b"origin": b"http://127.0.0.1:4687", b"sec-fetch-site": b"cross-site"},
        {b"sec-fetch-site": b"cross-site"},
        {b"sec-fetch-site": b"same-site"},
        {b"sec-fetch-site": b"new-word"},
        {b"sec-fetch-site": b""},
        {b"origin": b"https://evil.example", b"access-control-request-method": b"POST"},
    ],
)
def test_a_foreign_page_is_refused_whatever_it_asks(method, path, said):
    refusal = PLAIN.judge(method, path, HERE | said).refusal
    assert refusal is not None
    assert (refusal.status, refusal.code) == (403, "foreign_page")
    assert "cors_origins" in refusal.detail


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_name_is_refused_whatever_is_asked_and_who_asks(method, path):
    for said in ({}, {b"origin": b"http://evil.example:4687", b"sec-fetch-site": b"same-origin"}):
        refusal = OPEN.judge(method, path, {b"host": b"evil.example:4687"} | said).refusal
        assert refusal is not None
        assert (refusal.status, refusal.code) == (421, "foreign_host")
        assert "evil.example" in refusal.detail
        assert "hosts" in refusal.detail


@pytest.mark.parametrize(
    "said",
    [
        {},
        {b"content-type": b"application/json"},
        {b"content-type": b"application/json; charset=utf-8"},
        {b"content-type": b"application/octet-stream"},
        {b"sec-fetch-site": b"none"},
        {b"sec-fetch-site": b"same-origin"},
        {b"origin": b"http://127.0.0.1:4687"},
        {b"origin": b"http://127.0.0.1:4687", b"sec-fetch-site": b"same-origin"},
        {b"x-upgrade": b"h2c"},
    ],
)
def test_who_is_no_page_or_the_brokers_own_is_let_in(said):
    for method in METHODS:
        assert PLAIN.judge(method, "/v1/chat/completions", HERE | said) is LET_IN


def test_a_page_behind_a_proxy_that_takes_tls_off_is_the_brokers_own():
    guard = Guard(Names(listed=("hotseat.example.org",)), Origins())
    for host in (b"hotseat.example.org", b"hotseat.example.org:443"):
        seen = {b"host": host, b"origin": b"https://hotseat.example.org", b"sec-fetch-site": b"same-origin"}
        assert guard.judge("POST", "/lease", seen) is LET_IN


@pytest.mark.parametrize(
    "kind",
    [
        b"text/plain",
        b"TEXT/PLAIN;charset=UTF-8",
        b" text/plain ; x=application/json",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
    ],
)
def test_a_body_that_a_form_can_send_is_refused_though_nobody_says_that_a_page_sends_it(kind):
    for path in ("/v1/chat/completions", "/lease", "/slots/gpu0/drain", "/v1/v1/messages", "/chat/completions"):
        refusal = PLAIN.judge("POST", path, HERE | {b"content-type": kind}).refusal
        assert refusal is not None
        assert (refusal.status, refusal.code) == (415, "media_type")
    assert PLAIN.judge("GET", "/status", HERE | {b"content-type": kind}) is LET_IN


def test_forms_with_files_are_taken_where_clients_send_them():
    form = HERE | {b"content-type": b"multipart/form-data; boundary=x"}
    for path in ("/v1/audio/transcriptions", "/v1/images/edits", "/audio/translations"):
        assert PLAIN.judge("POST", path, form) is LET_IN
        assert PLAIN.judge("POST", path, HERE | {b"content-type": b"text/plain"}).refusal
        assert PLAIN.judge("POST", path, form | {b"origin": b"https://evil.example"}).refusal


def test_a_wanted_page_is_let_in_as_a_page_and_its_answer_may_be_read():
    page = HERE | {b"origin": b"http://localhost:5173", b"sec-fetch-site": b"same-site"}
    verdict = OPEN.judge("POST", "/v1/chat/completions", page | {b"content-type": b"application/json"})
    assert (verdict.refusal, verdict.page, verdict.preflight) == (None, True, False)
    headers = dict(verdict.headers)
    assert headers[b"access-control-allow-origin"] == b"http://localhost:5173"
    assert headers[b"vary"] == b"Origin"
    for name in (b"x-request-id", b"request-id", b"retry-after", b"x-hotseat-lease", b"x-hotseat-waited-ms"):
        assert name in EXPOSED.split(b", ")
    assert b"access-control-allow-credentials" not in headers
    refused = OPEN.judge("POST", "/lease", page | {b"content-type": b"text/plain"})
    assert refused.refusal is not None
    assert dict(refused.headers) == headers, "its script may read why"


def test_a_preflight_is_answered_for_a_wanted_page():
    asked = HERE | {
        b"origin": b"http://localhost:5173",
        b"access-control-request-method": b"POST",
        b"access-control-request-headers": b"authorization,content-type,x-stainless-os",
    }
    verdict = OPEN.judge("OPTIONS", "/v1/chat/completions", asked)
    headers = dict(verdict.headers)
    assert verdict.preflight
    assert headers[b"access-control-allow-headers"] == b"authorization,content-type,x-stainless-os"
    assert {b"GET", b"POST", b"DELETE"} <= set(headers[b"access-control-allow-methods"].split(b", "))
    assert b"access-control-allow-private-network" not in headers
    private = OPEN.judge("OPTIONS", "/", asked | {b"access-control-request-private-network": b"true"})
    assert dict(private.headers)[b"access-control-allow-private-network"] == b"true"
    too_long = OPEN.judge("OPTIONS", "/", asked | {b"access-control-request-headers": b"x" * 10_000})
    assert b"access-control-allow-headers" not in dict(too_long.headers)
    assert not OPEN.judge("OPTIONS", "/", HERE | {b"origin": b"http://localhost:5173"}).preflight


def test_a_websocket_probe_is_told_to_use_http_but_not_a_foreign_page():
    probe = HERE | {b"x-upgrade": b"WebSocket"}
    refusal = PLAIN.judge("GET", "/v1/responses", probe).refusal
    assert refusal is not None
    assert refusal.status == 426
    assert PLAIN.judge("GET", "/v1/responses", probe | {b"origin": b"https://evil.example"}).refusal.status == 403


@pytest.mark.parametrize(
    "path, meant",
    [
        ("/v1/chat/completions", "/chat/completions"),
        ("/chat/completions", "/chat/completions"),
        ("/v1/v1/chat/completions", "/chat/completions"),
        ("/v1/chat/completions/", "/chat/completions"),
        ("/v1//chat/completions", "/chat/completions"),
        ("//v1/chat/completions", "/chat/completions"),
        ("/v1/v1/messages/count_tokens", "/messages/count_tokens"),
        ("/messages", "/messages"),
        ("/v1/models/", "/models"),
        ("/v1/v1/models", "/models"),
        ("/models/", "/models"),
        ("/models/org/name", "/models/org/name"),
        ("/models/load", "/models/load"),
        ("/v1", "/"),
        ("/v1/", "/"),
        ("/api/chat", "/api/chat"),
        ("/openai/v1/chat/completions", "/openai/v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "/chat/completions/chat/completions"),
    ],
)
def test_what_is_meant_for_v1_is_found_under_a_wrong_base_url(path, meant):
    assert is_meant(path)
    assert below_v1(path) == meant


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "*",
        "//",
        "/models",
        "/models/a/off",
        "/models/org/name/load",
        "/lease",
        "/lease/L1",
        "/lease/L1/why",
        "/status",
        "/queue",
        "/slots/gpu0/drain",
        "/events",
        "/metrics",
        "/openapi.json",
    ],
)
def test_what_is_ours_is_left_to_us(path):
    assert not is_meant(path)

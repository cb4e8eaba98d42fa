"""Sessions as a gateway lists them: a stand-in replays what real ones answered, over a real WebSocket."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve

from hooks.openclaw.poller.activity import ActivitySettings, ModelNames, Origin, Phase, SessionWatch
from hooks.openclaw.poller.sources.gateway_api import GatewayApiSource
from hooks.openclaw.poller.sources.port import SourceError, UnsupportedError

TOKEN = "tok123"
MODELS = ModelNames(names={}, providers=frozenset({"fake"}))


class Gateway:
    """What the poller meets of a gateway (protocol 4)."""

    def __init__(self, listing: Path) -> None:
        self.listing = listing.read_text()
        self.refusal: dict | None = None
        self.asked: list[dict] = []
        self.scopes: list[str] = []

    def __call__(self, link: ServerConnection) -> None:
        link.send(json.dumps({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n"}}))
        for text in link:
            request = json.loads(text)
            link.send(json.dumps({"type": "event", "event": "tick", "payload": {"ts": 1}}))
            answer = {"type": "res", "id": request["id"], "ok": True}
            if request["method"] == "connect":
                self.scopes = request["params"]["scopes"]
                if request["params"]["auth"]["token"] != TOKEN:
                    answer |= {"ok": False, "error": {"code": "UNAUTHORIZED", "message": "token mismatch"}}
                link.send(json.dumps({**answer, "payload": {"type": "hello-ok", "protocol": 4}}))
            elif self.refusal is not None:
                link.send(json.dumps({**answer, "ok": False, "error": self.refusal}))
            else:
                self.asked.append(request["params"])
                link.send(json.dumps({**answer, "payload": json.loads(self.listing)}))


@contextmanager
def served(gateway: Gateway, port: int = 0) -> Iterator[str]:
    with serve(gateway, "127.0.0.1", port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def source_of(url: str, token: str = TOKEN) -> GatewayApiSource:
    return GatewayApiSource(url, token, limit=100, active_s=900)


def kept(source: GatewayApiSource, **settings) -> dict[str, str | None]:
    watch, reading = SessionWatch(settings=ActivitySettings(**settings), models=MODELS), source.read()
    keeps = [session for session in reading.sessions if watch.judge(session, reading.now_s, 0.0) == "keep"]
    return {session.key.rsplit(":", 1)[1][:8]: MODELS.ours(session.model) for session in keeps}


def test_turns_as_recorded(recorded: Path):
    gateway = Gateway(recorded / "sessions-list-2026.9.6-turns.json")
    with served(gateway) as url:
        sessions = {session.key: session for session in source_of(url).read().sessions}
        expected = {"36408a26": "beta", "parent2": "alpha", "long": "alpha", "fresh": "alpha", "main": "alpha"}
        assert kept(source_of(url), active_s=120) == expected
    assert sessions["agent:main:slowone"].phase is Phase.STOPPED
    assert [key for key, session in sessions.items() if session.origin is Origin.AUTOMATIC] == [
        "agent:main:cron:e70b9ee1-3838-40d4-838f-b96639cb31cb"
    ]
    assert gateway.scopes == ["operator.read"]
    assert gateway.asked[0] == {"limit": 100, "activeMinutes": 30}


def test_a_heartbeat_is_no_conversation(recorded: Path):
    with served(Gateway(recorded / "sessions-list-2026.9.6-heartbeat.json")) as url:
        assert "main" not in kept(source_of(url), active_s=60)
        assert "main" in kept(source_of(url), active_s=120)


def test_a_gateway_that_cannot_tell_heartbeats_apart_is_refused(recorded: Path):
    with served(Gateway(recorded / "sessions-list-2026.7.35.json")) as url, pytest.raises(UnsupportedError) as raised:
        source_of(url).read()
    assert "legacy-json" in str(raised.value)


def test_a_wrong_token_is_said(recorded: Path):
    gateway = Gateway(recorded / "sessions-list-2026.9.6-turns.json")
    with served(gateway) as url, pytest.raises(UnsupportedError, match="refused connect: UNAUTHORIZED token mismatch"):
        source_of(url, "other").read()


def test_a_gateway_that_is_starting_is_a_passing_fault(recorded: Path):
    gateway = Gateway(recorded / "sessions-list-2026.9.6-turns.json")
    gateway.refusal = {"code": "UNAVAILABLE", "message": "gateway starting", "retryAfterMs": 500}
    with served(gateway) as url:
        with pytest.raises(SourceError, match="UNAVAILABLE") as raised:
            source_of(url).read()
        assert type(raised.value) is SourceError
        gateway.refusal = None
        assert source_of(url).read().sessions


def test_a_restart_of_the_gateway_costs_one_look(recorded: Path):
    gateway = Gateway(recorded / "sessions-list-2026.9.6-turns.json")
    with served(gateway) as url:
        source = source_of(url)
        assert source.read().sessions
    with pytest.raises(SourceError, match="does not answer"):
        source.read()
    with served(gateway, int(url.rsplit(":", 1)[1])):
        assert source.read().sessions


@pytest.mark.parametrize("listing", ['{"ts": 1}', '{"ts": 1, "sessions": [{"name": "x"}]}', "[]"])
def test_a_listing_of_another_form_is_refused(recorded: Path, tmp_path: Path, listing: str):
    (tmp_path / "listing").write_text(listing)
    with served(Gateway(tmp_path / "listing")) as url, pytest.raises(UnsupportedError, match="form"):
        source_of(url).read()

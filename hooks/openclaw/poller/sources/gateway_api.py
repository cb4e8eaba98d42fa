"""Sessions as the gateway itself lists them, over its WebSocket (protocol 3 and 4): no schema, no files, its own clock.

The HTTP twin (``POST /tools/invoke`` with ``sessions_list``) is not used: its rows have no ``lastInteractionAt``, so a
heartbeat would look like a conversation (measured on 2026.9.6).
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from hooks.openclaw.poller.activity import Origin, Phase, Reading, SessionReading
from hooks.openclaw.poller.sources.port import SourceError, UnsupportedError

TIMEOUT_S = 10.0
MAX_BYTES = 64 * 1024 * 1024
"""Longest answer that is taken, bytes; a row is about 4 KiB."""
_REFUSALS = frozenset({"INVALID_REQUEST", "UNAUTHORIZED", "FORBIDDEN", "NOT_PAIRED", "PERMISSION_DENIED"})


class _Row(msgspec.Struct, rename="camel"):
    """The fields that are read of a session."""

    key: str
    updated_at: float | None = None
    last_interaction_at: float | None = None
    started_at: float | None = None
    status: str | None = None
    has_active_run: bool = False
    created_via: str | None = None
    spawned_by: str | None = None
    classification: str | None = None
    model_provider: str | None = None
    model: str | None = None


class _Listing(msgspec.Struct, rename="camel"):
    """The answer of ``sessions.list``."""

    ts: float
    sessions: list[_Row]


class _Answer(msgspec.Struct):
    """One frame: an answer to a request of ours, or an event."""

    type: str
    id: str = ""
    ok: bool = False
    payload: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


class GatewayApiSource:
    """Reads one gateway. A connection lives for one look: a restarted gateway needs no special care."""

    def __init__(self, url: str, token: str, *, limit: int, active_s: float) -> None:
        self._url = url
        self._token = token
        self._asked = {"limit": limit, "activeMinutes": max(1, round(active_s / 60) * 2)}

    def read(self) -> Reading:
        """Look once, over a connection of its own."""
        with _connected(self._url) as link:
            _call(link, "connect", self._introduction())
            listing = _call(link, "sessions.list", self._asked)
        try:
            listed = msgspec.json.decode(listing, type=_Listing)
        except msgspec.DecodeError as error:
            raise UnsupportedError(
                f"the gateway lists sessions in a form this poller does not know: {error}"
            ) from error
        rows = listed.sessions
        if rows and all(row.last_interaction_at is None for row in rows if not _is_automatic(row)):
            raise UnsupportedError(
                "this gateway does not say when somebody last spoke: set poller.source to legacy-json"
            )
        return Reading(sessions=tuple(_session(row) for row in rows), now_s=listed.ts / 1000)

    def close(self) -> None:
        """Do nothing: no connection outlives a look."""

    def _introduction(self) -> dict[str, Any]:
        client = {"id": "gateway-client", "version": "1", "platform": "linux", "mode": "backend"}
        return {
            "minProtocol": 3,
            "maxProtocol": 4,
            "client": client,
            "role": "operator",
            "scopes": ["operator.read"],
            "auth": {"token": self._token},
            "caps": [],
        }


@contextmanager
def _connected(url: str) -> Iterator[ClientConnection]:
    try:
        with connect(url, open_timeout=TIMEOUT_S, close_timeout=1.0, max_size=MAX_BYTES, proxy=None) as link:
            link.recv(timeout=TIMEOUT_S)  # its challenge; a shared token on loopback need not answer it
            yield link
    except (OSError, TimeoutError, WebSocketException) as error:
        raise SourceError(f"the gateway at {url} does not answer: {str(error) or type(error).__name__}") from error


def _call(link: ClientConnection, method: str, params: dict[str, Any]) -> bytes:
    """Make one request; events that come in between are skipped."""
    link.send(json.dumps({"type": "req", "id": method, "method": method, "params": params}))
    deadline_s = time.monotonic() + TIMEOUT_S
    while (left_s := deadline_s - time.monotonic()) > 0:
        try:
            answer = msgspec.json.decode(link.recv(timeout=left_s), type=_Answer)
        except msgspec.DecodeError as error:
            raise UnsupportedError(f"this is no OpenClaw gateway: {error}") from error
        if answer.type == "res" and answer.id == method:
            if answer.ok:
                return bytes(answer.payload)
            raise _refusal(method, answer.error or {})
    raise SourceError(f"the gateway did not answer {method} within {TIMEOUT_S:g} s")


def _refusal(method: str, error: dict[str, Any]) -> SourceError:
    code, words = str(error.get("code", "")), str(error.get("message", "no reason given"))[:200]
    kind = UnsupportedError if code in _REFUSALS else SourceError
    return kind(f"the gateway refused {method}: {code} {words}")


def _is_automatic(row: _Row) -> bool:
    return row.created_via in {"cron", "internal"} or row.classification == "cron" or ":cron:" in row.key


def _session(row: _Row) -> SessionReading:
    spawned = row.created_via == "spawn" or row.spawned_by is not None
    return SessionReading(
        key=row.key,
        origin=Origin.AUTOMATIC if _is_automatic(row) else Origin.SPAWNED if spawned else Origin.PERSON,
        phase=_phase(row),
        model=f"{row.model_provider}/{row.model}" if row.model_provider and row.model else None,
        interacted_s=_seconds(row.last_interaction_at),
        run_started_s=_seconds(row.started_at),
        sign_s=_seconds(row.updated_at),
    )


def _phase(row: _Row) -> Phase:
    if row.has_active_run:
        return Phase.RUNNING
    if row.status == "killed":
        return Phase.STOPPED
    return Phase.NEW if row.status is None else Phase.RESTING


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000

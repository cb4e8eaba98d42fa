"""A small blocking client of the broker's HTTP API, for the command line.

The standard library's client and nothing else: `hotseat ps` should answer as fast as `ls` does.
"""

import http.client
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from schemas.addresses import address_of

DEFAULT_URL = "http://127.0.0.1:4687"
ANSWER_S = 10.0
"""How long a call may take beyond what it asked the broker to wait."""
STREAM_S = 45.0
"""A stream that says nothing for so long, seconds, is cut: the broker says something every 15 s."""
PASSING = frozenset({0, 408, 425, 500, 502, 503, 504})
"""Statuses that may pass: no answer (0), or what a broker that restarts, a store that is away or a proxy gives."""
LASTING = frozenset({"unusable", "model_off"})
"""Codes of problems that do not pass although they come with one of these statuses."""

JsonBody = dict[str, Any]


class BrokerError(Exception):
    """The broker refused, or did not answer; the message says what to do. ``status`` is 0 when it did not answer."""

    def __init__(self, message: str, *, status: int = 0, code: str = "unreachable", retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def is_passing(self) -> bool:
        """Tell whether the same call may succeed in a moment."""
        if self.status == 404 and self.code == "http":  # of a proxy that has lost sight of its broker
            return True
        return (self.status in PASSING and self.code not in LASTING) or self.code in {"rate_limited", "waiters_full"}

    @property
    def brief(self) -> str:
        """Return what happened, without the advice."""
        return str(self).partition(";")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Calls one broker, and turns its problems into ``BrokerError``."""

    url: str = DEFAULT_URL
    api_key: str = ""
    answer_s: float = ANSWER_S

    @classmethod
    def from_environment(cls, *, url: str | None = None) -> "Client":
        """Take the URL from the argument, else ``HOTSEAT_URL``, else the default; the key from ``HOTSEAT_API_KEY``."""
        chosen = url or os.environ.get("HOTSEAT_URL") or DEFAULT_URL
        return cls(url=chosen.rstrip("/"), api_key=os.environ.get("HOTSEAT_API_KEY", ""))

    def get(self, path: str, *, wait_s: float = 0.0) -> JsonBody:
        """Read something; ``wait_s`` is how long the broker was asked to hold its answer."""
        return self._call("GET", path, None, wait_s)

    def post(self, path: str, body: JsonBody, *, wait_s: float = 0.0, operation: str | None = None) -> JsonBody:
        """Change something. The idempotency key makes a repeated call the same call."""
        return self._call("POST", path, body, wait_s, operation or secrets.token_hex(12))

    def delete(self, path: str) -> JsonBody:
        """End what is at this path, as a lease."""
        return self._call("DELETE", path, None, 0.0)

    def events(self, path: str) -> Iterator[JsonBody]:
        """Yield the data of a stream of server-sent events until it ends."""
        with self._asked("GET", path, None, STREAM_S) as response:
            if response.status >= 400:
                _answer(response.status, response.read(), response.getheader("Retry-After"))
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def _call(self, method: str, path: str, body: JsonBody | None, wait_s: float, operation: str = "") -> JsonBody:
        with self._asked(method, path, body, wait_s + self.answer_s, operation) as response:
            return _answer(response.status, response.read(), response.getheader("Retry-After"))

    @contextmanager
    def _asked(
        self, method: str, path: str, body: JsonBody | None, timeout_s: float, operation: str = ""
    ) -> Iterator[http.client.HTTPResponse]:
        connection, prefix = self._connection(timeout_s)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, prefix + path, payload, self._headers(body, operation))
            yield connection.getresponse()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise BrokerError(f"no answer from the broker at {self.url} ({reason}); is `hotseat broker` up?") from None
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
        """Make the connection, which is not opened yet, and say what comes before each path."""
        try:
            parts = address_of(self.url, ("http", "https"))
        except ValueError as error:
            told = f"the broker's address {error}; set HOTSEAT_URL or --url"
            raise BrokerError(told, code="unusable") from None
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(str(parts.hostname), parts.port, timeout=timeout_s), parts.path

    def _headers(self, body: JsonBody | None, operation: str) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if operation:
            headers["Idempotency-Key"] = operation
        if self.api_key:
            if not (self.api_key.isascii() and self.api_key.isprintable()):
                raise BrokerError("HOTSEAT_API_KEY holds a character that no key has", code="unusable")
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers


def segment(text: str) -> str:
    """Make a path segment out of any text."""
    return quote(text, safe="")


def _answer(status: int, raw: bytes, retry_after: str | None) -> JsonBody:
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = {}
    if status < 400 and isinstance(body, dict):
        return body
    detail = body.get("detail") if isinstance(body, dict) else None
    raise BrokerError(
        str(detail or f"the broker answered {status}"),
        status=status,
        code=str(body.get("code", "http")) if isinstance(body, dict) else "http",
        retry_after_s=float(retry_after) if retry_after and retry_after.isdigit() else 0.0,
    )

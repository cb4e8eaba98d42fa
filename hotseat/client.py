"""A small blocking client of the broker's HTTP API, for the command line.

The standard library's client and nothing else: `hotseat ps` should answer as fast as `ls` does.
"""

import http.client
import json
import os
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

DEFAULT_URL = "http://127.0.0.1:4687"
ANSWER_S = 10.0
"""How long a call may take beyond what it asked the broker to wait."""

Body = dict[str, Any]


class BrokerError(Exception):
    """The broker refused, or did not answer; the message says what to do. ``status`` is 0 when it did not answer."""

    def __init__(self, message: str, *, status: int = 0, code: str = "unreachable", retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One broker."""

    url: str = DEFAULT_URL
    api_key: str = ""

    @classmethod
    def from_environment(cls, *, url: str | None = None) -> "Client":
        """Address from the argument, else ``HOTSEAT_URL``, else the default; key from ``HOTSEAT_API_KEY``."""
        chosen = url or os.environ.get("HOTSEAT_URL") or DEFAULT_URL
        return cls(url=chosen.rstrip("/"), api_key=os.environ.get("HOTSEAT_API_KEY", ""))

    def get(self, path: str, *, wait_s: float = 0.0) -> Body:
        """Read something; ``wait_s`` is how long the broker was asked to hold its answer."""
        return self._call("GET", path, None, wait_s)

    def post(self, path: str, body: Body, *, wait_s: float = 0.0, operation: str | None = None) -> Body:
        """Change something. The idempotency key makes a repeated call the same call."""
        return self._call("POST", path, body, wait_s, operation or secrets.token_hex(12))

    def delete(self, path: str) -> Body:
        """End something."""
        return self._call("DELETE", path, None, 0.0)

    def _call(self, method: str, path: str, body: Body | None, wait_s: float, operation: str = "") -> Body:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise BrokerError(f"{self.url!r} is not an http:// or https:// address; set HOTSEAT_URL or --url")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=wait_s + ANSWER_S)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, parts.path + path, payload, self._headers(body, operation))
            response = connection.getresponse()
            return _answer(response.status, response.read(), response.getheader("Retry-After"))
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise BrokerError(f"no answer from the broker at {self.url} ({reason}); is `hotseat broker` up?") from None
        finally:
            connection.close()

    def _headers(self, body: Body | None, operation: str) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if operation:
            headers["Idempotency-Key"] = operation
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers


def segment(text: str) -> str:
    """A path segment out of anything."""
    return quote(text, safe="")


def _answer(status: int, raw: bytes, retry_after: str | None) -> Body:
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

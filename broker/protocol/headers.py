"""Which headers pass between a client and a model server, and the ones that say how a request was served.

Rule: what a client sends passes only if it is listed here, so no credential, cookie or unknown header of a client ever
reaches a model server; what a model server answers passes unless it belongs to its connection, or to its own address
(cookies, TLS, which pages may read it).
"""

from collections.abc import Iterable

import msgspec

Headers = list[tuple[bytes, bytes]]

TO_THE_MODEL = frozenset(
    {
        b"accept",
        b"anthropic-beta",
        b"anthropic-version",
        b"content-type",
        b"openai-beta",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-request-id",
    }
)
"""Not ``accept-encoding``: a compressed stream could not be begun before the model server answers."""

_STAYS = frozenset(
    {
        b"alt-svc",
        b"connection",
        b"date",
        b"keep-alive",
        b"proxy-authenticate",
        b"server",
        b"set-cookie",
        b"strict-transport-security",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

OURS = b"x-hotseat-"
_ACCESS = b"access-control-"
"""Which web pages may read an answer is said by the broker alone; two such headers of one name count for none."""
_IDS = {
    b"x-request-id": b"x-hotseat-upstream-request-id",
    b"request-id": b"x-hotseat-upstream-request-id",
}
"""The answer is known by the broker's own id; that of the server it came from is kept under another name."""
LONGEST_WORDS = 300
"""Characters of a sentence in a header."""

EVENT_STREAM: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
"""Of an answer that is begun without the model server."""


def by_name(fields: Headers) -> dict[bytes, bytes]:
    """A client's headers; of one that is there twice the last.

    Ours are joined instead, so that no later one takes back what an earlier one says: neither is the plain word that
    ``x-hotseat-private: 0`` has to be. So are codings of the body, which are a list.
    """
    found = dict(fields)
    if len(found) < len(fields):
        for name in found:
            if name.startswith(OURS) or name == b"content-encoding":
                found[name] = b", ".join(value for given, value in fields if given == name)
    return found


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """How a request is served so far; empty words are left out."""

    lease_id: str = ""
    model: str = ""
    route: str = ""
    reason: str = ""
    private: str = ""
    waited_s: float = 0.0
    position: int = 0
    """In line, when it was last looked at; 0: it has its lease."""
    eta_s: float | None = None
    """Until it is served, as far as anybody knows."""
    validated: str = ""
    """Was the answer held against its schema?"""
    load_error: str = ""
    """How the last load of the model that it waits for failed."""

    def headers(self) -> Headers:
        """``x-hotseat-…``."""
        fields: Headers = [
            (b"x-hotseat-waited-ms", b"%d" % round(self.waited_s * 1000)),
            (b"x-hotseat-position", b"%d" % self.position),
        ]
        for name, word in (
            (b"x-hotseat-lease", self.lease_id),
            (b"x-hotseat-model", self.model),
            (b"x-hotseat-route", self.route),
            (b"x-hotseat-reason", self.reason),
            (b"x-hotseat-private", self.private),
            (b"x-hotseat-validate", self.validated),
            (b"x-hotseat-eta-s", "" if self.eta_s is None else f"{self.eta_s:.0f}"),
        ):
            if word:
                fields.append((name, word.encode()))
        if self.load_error:
            fields.append((b"x-hotseat-load-error", _plain(self.load_error)))
        return fields


def _plain(text: str) -> bytes:
    """As the value of a header: printable ASCII, bounded."""
    return "".join(char if " " <= char <= "~" else "?" for char in text[:LONGEST_WORDS]).encode()


def to_the_model(headers: Iterable[tuple[bytes, bytes]], api_key: str) -> Headers:
    """A client's headers for a model server, with the load's own key."""
    passed = [header for header in headers if header[0] in TO_THE_MODEL]
    passed.append((b"authorization", b"Bearer " + api_key.encode()))
    return passed


def to_the_client(headers: Iterable[tuple[bytes, bytes]], served: Served) -> Headers:
    """A model server's headers for a client, and how it was served."""
    passed = [
        (_IDS.get(name, name), value)
        for name, value in headers
        if name not in _STAYS and not name.startswith((OURS, _ACCESS))
    ]
    return passed + served.headers()


def is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Does the body consist of server-sent events?"""
    return any(name == b"content-type" and value.lower().startswith(b"text/event-stream") for name, value in headers)

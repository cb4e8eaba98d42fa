"""Which requests are let in at all: those for a name this broker goes by, and of no web page that is not wanted.

A page of somebody else's in the user's browser can send requests to addresses of this machine. Browsers say where such
a request comes from, and no script can take that back; other clients say nothing of the kind and are left alone.

Rule: what is refused is refused before a body is read or a caller is known, whatever the address and the method.
"""

from collections.abc import Iterator, Mapping

import msgspec

from broker.access.host_names import Names
from broker.access.origins import Origins
from broker.protocol.refusals import Refusal

_Seen = Mapping[bytes, bytes]
"""Headers of one request, by name in lower case."""

UPGRADE = b"x-upgrade"
"""Under this name an ``Upgrade`` header reaches the parser, for which it is no offer of another protocol then."""
EXPOSED = (
    b"x-request-id, request-id, retry-after, location, x-hotseat-lease, x-hotseat-model, x-hotseat-route, "
    b"x-hotseat-reason, x-hotseat-private, x-hotseat-waited-ms, x-hotseat-position, x-hotseat-eta-s, "
    b"x-hotseat-repeated, x-hotseat-upstream-request-id, *"
)
"""What a page's script may read; the star covers whatever else there is, since no answer depends on cookies."""
PREFLIGHT_S = 600
"""A browser need not ask again for this long, seconds."""
MAX_ASKED = 2048
"""Longest list of header names that a preflight is answered for, bytes."""
_VARY = (b"vary", b"Origin")
_METHODS = b"GET, HEAD, POST, DELETE, OPTIONS"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_FORMS = frozenset({b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"})
"""What a page can send to anybody without asking first: the three encodings of HTML's forms."""
_FORMS_WANTED = ("/audio/", "/images/")
_OWN_SITE = frozenset({b"same-origin", b"none"})
"""``none``: somebody typed the address."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one request: it is let in, answered here as a preflight, or refused."""

    refusal: Refusal | None = None
    """The error it is answered with; None means that it is let in."""
    page: bool = False
    """True if a web page of another, wanted origin asks. Without an API key such a page never has an operator's
    rights."""
    preflight: bool = False
    """True if only the browser asks, before the page's own request; the headers are then the whole answer."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that go with its answer, whatever that answer is."""


LET_IN = Admission()


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """The words of a refusal: what is guarded, and what an operator can do about it."""

    what: str = "this broker"
    about_names: str = "if it should, add that to hosts in [broker] of hotseat.toml (HOTSEAT_BROKER_HOSTS)"
    about_pages: str = (
        "if they should, add their origin to cors_origins in [broker] of hotseat.toml (HOTSEAT_BROKER_CORS_ORIGINS)"
    )


class Guard:
    """Looks at the head of every request; knows nothing of keys."""

    def __init__(self, names: Names, origins: Origins, words: Words | None = None) -> None:
        self._words = words or Words()
        self._names = names
        self._known_hosts = names.known
        self._origins = origins

    def judge(self, method: str, path: str, seen: _Seen, target: bytes | None = None) -> Admission:
        """Decide, in this order. ``target``: the name in the request's own address, as clients of a proxy write one.

        1. It must be meant for this broker, by its ``Host``: whoever rebinds a name of their own to this machine's
           address would share an origin with all that is read here.
        2. A page must be one of this broker's own, or of an origin that is wanted (CORS).
        3. The browser's question before such a request is answered here (a preflight).
        4. There is no other protocol: who tries WebSocket turns to HTTP when told so.
        5. A body must be of a type that no page can send without that question, but for forms with files.
        """
        host = seen.get(b"host")
        if host not in self._known_hosts and not self._names.has(host):  # 1
            return Admission(refusal=self._foreign_host(host or b""))
        if target is not None and not self._names.has(b"[%b]" % target if b":" in target else target):
            return Admission(refusal=self._foreign_host(target))
        let_in = LET_IN
        if b"origin" in seen or b"sec-fetch-site" in seen:  # 2
            let_in = self._page(seen)
            if let_in.refusal is not None:
                return let_in
            if let_in.page and method == "OPTIONS" and b"access-control-request-method" in seen:  # 3
                return Admission(page=True, preflight=True, headers=tuple(_allowed(seen)))
        if UPGRADE in seen and b"websocket" in seen[UPGRADE].lower():  # 4
            return msgspec.structs.replace(let_in, refusal=NO_WEBSOCKET)
        kind = seen.get(b"content-type")  # 5
        if kind is not None and kind != b"application/json" and method not in _READING and _is_of_a_form(kind, path):
            return msgspec.structs.replace(let_in, refusal=NOT_A_FORM)
        return let_in

    def _page(self, seen: _Seen) -> Admission:
        site, origin = seen.get(b"sec-fetch-site"), seen.get(b"origin")
        own_site = site is None or site in _OWN_SITE
        if origin is None:
            return LET_IN if own_site else Admission(refusal=self._foreign_page(b"Sec-Fetch-Site: %b" % (site or b"")))
        if own_site and self._origins.is_of(origin, seen.get(b"host", b"")):
            return LET_IN
        if not self._origins.wants(origin):
            return Admission(refusal=self._foreign_page(origin))
        return Admission(
            page=True,
            headers=(
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSED),
                _VARY,
            ),
        )

    def _foreign_host(self, host: bytes) -> Refusal:
        """Refuse a request that came under a host name that is not ours."""
        name, words = _shown(host), self._words
        detail = f"{words.what} does not go by the name {name}; {words.about_names}"
        return Refusal(code="foreign_host", detail=detail, about=name)

    def _foreign_page(self, origin: bytes) -> Refusal:
        """Refuse a page that may not use the broker; where its headers name no origin, no script could read it."""
        name, words = _shown(origin), self._words
        detail = f"web pages of others may not use {words.what} ({name}); {words.about_pages}"
        return Refusal(code="foreign_page", detail=detail, about=name)


def _is_of_a_form(content_type: bytes, path: str) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    if kind not in _OF_FORMS:
        return False
    return kind != b"multipart/form-data" or not any(part in path for part in _FORMS_WANTED)


def _allowed(seen: _Seen) -> Iterator[tuple[bytes, bytes]]:
    """Answer a preflight: what a page may send. Which headers it sends makes no difference here."""
    yield b"access-control-allow-origin", seen[b"origin"]
    yield b"access-control-allow-methods", _METHODS
    asked = seen.get(b"access-control-request-headers", b"")
    if asked and len(asked) <= MAX_ASKED:
        yield b"access-control-allow-headers", asked
    if seen.get(b"access-control-request-private-network") == b"true":
        yield b"access-control-allow-private-network", b"true"
    yield b"access-control-max-age", b"%d" % PREFLIGHT_S
    yield _VARY


NO_WEBSOCKET = Refusal(
    code="http_only",
    detail='this broker does not speak WebSocket; send the same request over HTTP, and "stream": true for events',
    headers=((b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade")),
)
NOT_A_FORM = Refusal(
    code="media_type",
    detail="send Content-Type: application/json; what a web page's form can send is not taken here",
)


def _shown(value: bytes) -> str:
    """A header's value for a person: bounded, and nothing that could be taken for something else."""
    return "".join(letter if letter.isprintable() else "?" for letter in value[:100].decode("latin-1")).strip() or "''"

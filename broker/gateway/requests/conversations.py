"""Where clients put the id of a conversation, and which of these ids are believed.

Rule: an id that changes with every request is no session. Sessions take turns, so a client that names a new one for
each of its requests would have as many turns as requests. Ids that never come back, more than ``MOST_NEW`` in a row
from one caller at one place, are not believed until one of them does come back.

A conversation without any id is told apart by what its requests share: the API key, the client's address, and its first
user's message. It is one from the request on that continues it, so that a flood of single questions stays one session.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from broker.gateway.requests.shared import Shared

MOST_NEW = 4
"""How many ids in a row may be new before they are not believed: four people may begin to talk at the same time."""
MOST_TOLD = 16
"""How many conversations of one caller are told apart without an id; the one that was quiet for longest is
forgotten."""

CHOSEN = b"x-hotseat-session"
"""The header in which a client names its session for us; it means it, so it is believed without more."""

HEADERS: tuple[tuple[bytes, str], ...] = (
    (b"x-session-affinity", "OpenClaw, opencode"),
    (b"session_id", "OpenClaw, older Codex"),
    (b"x-claude-code-session-id", "Claude Code"),
    (b"session-id", "Codex"),
    (b"thread-id", "Codex"),
    (b"conversation_id", "older Codex"),
    (b"x-opencode-session", "opencode"),
    (b"x-openwebui-chat-id", "Open WebUI, with ENABLE_FORWARD_USER_INFO_HEADERS"),
    (b"x-litellm-session-id", "LiteLLM, OpenHands"),
    (b"x-session-id", "clients made for OpenRouter"),
    (b"x-conversation-id", "several"),
    (b"x-thread-id", "several"),
    (b"x-chat-id", "several"),
)
"""Headers that name a conversation, the first one first, and who sends them."""
VENDORS = (b"x-", b"-session-id")
"""How the headers of other coding agents begin and end (``x-qwen-code-session-id`` …); LiteLLM accepts them all."""

USER_HEADERS: tuple[tuple[bytes, str], ...] = ((b"x-openwebui-user-id", "Open WebUI, with the same setting"),)
"""Headers that name a person, after whatever names a conversation."""

NO_SESSIONS = frozenset({b"x-client-request-id", b"x-request-id", b"x-litellm-trace-id", b"x-openwebui-message-id"})
"""Headers that are new with each request. They stand here so that nobody adds them: Claude Code sends the first one
beside its session."""

METADATA = ("session_id", "conversation_id", "chat_id", "thread_id")
"""Fields of a body's ``metadata`` that may name a session: those of LiteLLM, of OpenAI, and of chat front ends."""


class Named(msgspec.Struct, frozen=True):
    """An id that a client sent, and where it stood."""

    place: str
    value: str


class Hints(msgspec.Struct, frozen=True):
    """What a body says of its conversation; anything may be of any type."""

    prompt_cache_key: Any = None
    conversation: Any = None
    session_id: Any = None
    litellm_session_id: Any = None
    metadata: Any = None
    user: Any = None
    safety_identifier: Any = None
    messages: msgspec.Raw = msgspec.Raw()
    """Read only where nothing else tells conversations apart, as ``input`` of a response."""
    input: msgspec.Raw = msgspec.Raw()


class Beginning(msgspec.Struct, frozen=True):
    """The beginning by which a conversation without an id is recognised."""

    digest: str
    length: int
    """How many messages there are so far: a longer request with the same beginning continues it."""


def named_by(headers: Mapping[bytes, bytes], hints: Hints, span_session: str | None) -> Iterator[Named]:
    """Yield every id that may name the session, the better one first."""
    for header, _ in HEADERS:
        if value := _text(headers.get(header)):
            yield Named(header.decode(), value)
    for header, raw in headers.items():
        if header.startswith(VENDORS[0]) and header.endswith(VENDORS[1]) and (value := _text(raw)):
            yield Named(header.decode("latin-1"), value)
    if span_session:
        yield Named("span", span_session)
    yield from _of_body(hints)
    for header, _ in USER_HEADERS:
        if value := _text(headers.get(header)):
            yield Named(header.decode(), value)
    yield from _of_people(hints)


def _text(raw: bytes | None) -> str:
    return raw.decode("utf-8", "replace").strip() if raw else ""


def _of_body(hints: Hints) -> Iterator[Named]:
    """Yield what names a conversation in a body."""
    conversation = hints.conversation
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    metadata = hints.metadata if isinstance(hints.metadata, dict) else {}
    found = {
        "prompt_cache_key": hints.prompt_cache_key,
        "conversation": conversation,
        "session_id": hints.session_id,
        "litellm_session_id": hints.litellm_session_id,
        **{f"metadata.{name}": metadata.get(name) for name in METADATA},
        "metadata.user_id: session": _claude_code_session(metadata.get("user_id")),
    }
    yield from _sound(found)


def _of_people(hints: Hints) -> Iterator[Named]:
    """Yield what names a person in a body: one session, whatever they talk about."""
    metadata = hints.metadata if isinstance(hints.metadata, dict) else {}
    found = {
        "user": hints.user,
        "safety_identifier": hints.safety_identifier,
        "metadata.user_id": metadata.get("user_id"),
    }
    yield from _sound(found)


def _sound(found: Mapping[str, object]) -> Iterator[Named]:
    for place, value in found.items():
        if isinstance(value, str) and (text := value.strip()):
            yield Named(place, text)


def _claude_code_session(user_id: object) -> str | None:
    """Find the session in what Claude Code sends as Anthropic's ``metadata.user_id``.

    Since 2.1 it is a JSON object with ``session_id``; before, ``user_<hash>_account_<uuid>_session_<uuid>``.
    """
    if not isinstance(user_id, str):
        return None
    if user_id.startswith("{"):
        try:
            session = msgspec.json.decode(user_id, type=dict[str, Any]).get("session_id")
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return session if isinstance(session, str) else None
    before, found, session = user_id.rpartition("_session_")
    return session if found and before.startswith("user_") else None


class _Message(msgspec.Struct, frozen=True):
    role: Any = None
    content: msgspec.Raw = msgspec.Raw()


_read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_message = msgspec.json.Decoder(_Message).decode
MOST_BEFORE = 32
"""How many messages are looked at for the first one of a user."""


def beginning_of(hints: Hints) -> Beginning | None:
    """Find the first user's message, and how long the conversation is. None: the body holds none that can be read.

    The instructions before it do not count: many agents put the time, or a list of files that changes, into theirs.
    """
    try:
        found = _read_list(hints.messages or hints.input or b"[]")
        for raw in found[:MOST_BEFORE]:
            message = _read_message(raw)
            if message.role == "user":
                digest = hashlib.blake2b(bytes(message.content), digest_size=8).hexdigest()
                return Beginning(digest, len(found))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return None


Caller = tuple[str, str]
"""Name of the API key, and address of the client."""


@dataclass(slots=True)
class Sight:
    """What one process knows of one id that a client sent."""

    fingerprint: str
    """Hash of the request that brought it first: the same request again is a retry, and proves nothing."""
    believed: bool
    late: bool
    """It was not believed at first, so its first request belonged to what its caller's requests share."""


@dataclass(slots=True)
class Sightings:
    """Which ids one process has seen. All is bounded; an API key's oldest entries make way for its new ones."""

    limit: int = 20_000
    _ids: Shared[tuple[Caller, str, str], Sight] = field(init=False)
    _new: Shared[tuple[Caller, str], int] = field(init=False)
    """How many ids in a row were new, by caller and where the id stood."""
    _begun: Shared[tuple[Caller, str], int] = field(init=False)
    """Beginnings of conversations, with the length at which each was first seen."""
    _told: Shared[Caller, "OrderedDict[str, None]"] = field(init=False)
    """Beginnings of conversations that were continued."""

    def __post_init__(self) -> None:
        self._ids = Shared(self.limit, lambda name: name[0][0])
        self._new = Shared(self.limit, lambda name: name[0][0])
        self._begun = Shared(self.limit, lambda name: name[0][0])
        self._told = Shared(self.limit, lambda asker: asker[0])

    def sight_of(self, asker: Caller, named: Named, fingerprint: str) -> Sight:
        """Return what is known of an id, this request counted. A repeated request is answered as it was before."""
        sight = self._ids.get((asker, named.place, named.value))
        if sight is None:
            run = (self._new.get((asker, named.place)) or 0) + 1
            self._new.put((asker, named.place), run)
            sight = Sight(fingerprint, believed=run <= MOST_NEW, late=run > MOST_NEW)
        elif sight.fingerprint != fingerprint:
            self._new.pop((asker, named.place))
            sight.believed = True
        self._ids.put((asker, named.place, named.value), sight)
        return sight

    def is_told_apart(self, asker: Caller, beginning: Beginning) -> bool:
        """Tell whether this request continues a conversation, or belongs to one that was continued before."""
        told = self._told.get(asker)
        if told is None or beginning.digest not in told:
            first = self._begun.get((asker, beginning.digest))
            self._begun.put((asker, beginning.digest), beginning.length if first is None else first)
            if first is None or beginning.length <= first:
                return False
            told = told or OrderedDict()
        told[beginning.digest] = None
        told.move_to_end(beginning.digest)
        if len(told) > MOST_TOLD:
            told.popitem(last=False)
        self._told.put(asker, told)
        return True

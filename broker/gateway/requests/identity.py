"""Whose conversation a request belongs to, and what else routing reads of it.

Rule: the first of these that is there, and is believed (``conversations``), names the session.

1. ``x-hotseat-session``
2. what clients call their conversation in a header; a ``traceparent`` whose span was registered with ``POST
   /sessions/span``; what they call it in the body, ``prompt_cache_key`` first
3. what names a person: ``user``, Anthropic's ``metadata.user_id``
4. the name of the API key and the client's address, with the beginning of a conversation that goes on
"""

import hashlib
import re
from collections.abc import Container, Mapping
from typing import Any

import msgspec

from broker.answers.reading import fault_of
from broker.core.errors import BadArgumentError, UnknownModelError
from broker.core.lease import PRIORITIES, RANK, Priority, priority_of
from broker.gateway.requests.conversations import CHOSEN, Caller, Hints, Sightings, beginning_of, named_by
from broker.protocol.error_bodies import LISTED
from broker.protocol.errors import MalformedError
from broker.protocol.forms import FormError, Places, multipart_form_of
from broker.routing.privacy.sessions import one_session
from schemas.names import NAME_PATTERN

PRIORITY_HEADER = b"x-hotseat-priority"
_LABEL = re.compile(r"[^\u0000-\u001f\u007f-\u009f{}\u2028\u2029]{1,256}")
_MODEL = re.compile(NAME_PATTERN)


class _Body(Hints, frozen=True):
    """The fields of a body that routing reads; every other field is skipped."""

    model: Any = None
    stream: Any = None
    provider: msgspec.Raw = msgspec.Raw()
    """OpenRouter's wishes; only the quantisations are read."""


class _Provider(msgspec.Struct, frozen=True):
    quantizations: Any = None


_read = msgspec.json.Decoder(_Body).decode
_read_provider = msgspec.json.Decoder(_Provider).decode
MOST_QUANTISATIONS = 16


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request as routing sees it."""

    model: str
    """The model it asks for; where the body names none, the default."""
    stream: bool
    hints: Hints
    """What the body says of its conversation."""
    model_at: Places = ()
    """Where in the body of a form the model's name is: begin and end. Empty: it is no form."""
    is_named: bool = True
    """The body names the model."""
    quantisations: tuple[str, ...] = ()
    """The quantisations of the weights that it accepts; empty: it does not say."""


class Identity(msgspec.Struct, frozen=True):
    """Whose request it is: the session, and the API key that it belongs to."""

    session: str
    named: bool
    """The client named the session. Otherwise many conversations may share it."""
    marked: str
    """The name under which it is marked as private: conversations without an id of their own share it, and one whose id
    was not believed at first is private for all of them."""
    owner: str = ""
    """Name of the API key. What two keys call alike are two sessions: nobody can make another one's private."""
    also: tuple[str, ...] = ()
    """Other names under which it is marked: the id that the client sent, believed or not, for another broker may decide
    otherwise; without an id the API key, for an address changes."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Return every name under which it is private or not, with its owner; no key's name has a bar."""
        return tuple(dict.fromkeys(f"{self.owner}|{name}" for name in (self.marked, *self.also)))


def asked_of(body: bytes, content_type: bytes = b"", default: str | None = None, aliases: Container[str] = ()) -> Asked:
    """Read what routing needs, out of a JSON object or a form with files.

    Args:
        body: The request's body.
        content_type: Value of the request's header.
        default: The model of an object that names none; None: there is no default.
        aliases: Names that no model of the catalogue can have.

    Raises:
        MalformedError: It is neither of them, or names no model.
        UnknownModelError: It names a model that no catalogue can hold.
    """
    try:
        is_form = content_type[:10].lower() == b"multipart/"
        read, model_at = _form(body, content_type) if is_form else (_read(body), ())
        quantisations = _quantisations(read.provider)
    except (FormError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError(f"the body cannot be read: {fault_of(body, error)}") from None
    is_named = read.model not in (None, "")
    model = read.model if is_named or is_form else default
    if not isinstance(model, str) or not model:
        raise MalformedError(f"the body must name a model: a string in the field 'model'; {LISTED}")
    if not _MODEL.fullmatch(model) and model not in aliases:
        raise UnknownModelError("there is no such model")
    return Asked(
        model=model,
        stream=read.stream is True,
        hints=read,
        model_at=model_at,
        is_named=is_named,
        quantisations=quantisations,
    )


def _quantisations(provider: msgspec.Raw) -> tuple[str, ...]:
    if not bytes(provider).startswith(b"{"):
        return ()
    words = _read_provider(provider).quantizations
    return (
        tuple(word for word in words if isinstance(word, str))[:MOST_QUANTISATIONS] if isinstance(words, list) else ()
    )


def _form(body: bytes, content_type: bytes) -> tuple[_Body, Places]:
    form = multipart_form_of(body, content_type, frozenset({"model", "stream", "user"}))
    texts = form.texts
    read = _Body(model=texts.get("model"), stream=texts.get("stream") == "true", user=texts.get("user"))
    return read, form.places.get("model", ())


def identify(
    headers: Mapping[bytes, bytes],
    asked: Asked,
    asker: Caller,
    sightings: Sightings,
    fingerprint: str,
    span_session: str | None = None,
) -> Identity:
    """Find the session, in the order above; a name that cannot be a label is replaced by its hash."""
    if chosen := headers.get(CHOSEN, b"").decode("utf-8", "replace").strip():
        return Identity(_label(chosen), named=True, marked=_label(chosen), owner=asker[0])
    shared = _label("@".join(part for part in asker if part))
    claimed: tuple[str, ...] = ()
    for named in named_by(headers, asked.hints, span_session):
        claimed = claimed or (_label(named.value),)
        sight = sightings.sight_of(asker, named, fingerprint)
        if sight.believed:
            session = _label(named.value)
            marked = shared if sight.late else session
            return Identity(session, named=True, marked=marked, owner=asker[0], also=claimed)
    also = (*claimed, _label(asker[0]))
    beginning = beginning_of(asked.hints)
    if beginning is not None and sightings.is_told_apart(asker, beginning):
        session = _label(f"{shared}#{beginning.digest[:8]}")
        return Identity(session, named=False, marked=shared, owner=asker[0], also=also)
    return Identity(shared, named=False, marked=shared, owner=asker[0], also=also)


def _label(text: str) -> str:
    if _LABEL.fullmatch(text):
        return text
    if _LABEL.fullmatch(plain := one_session(text)):
        return plain
    return "sha256:" + hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def priority_for(headers: Mapping[bytes, bytes], most_urgent: Priority, usual: Priority | None = None) -> Priority:
    """Return the class a request asks for; without the header the key's usual one, or the most urgent that it may have.

    Raises:
        BadArgumentError: There is no such class.
    """
    word = headers.get(PRIORITY_HEADER)
    if word is None:
        return max(usual or Priority.NORMAL, most_urgent, key=RANK.__getitem__)
    text = word.decode("latin-1").strip().lower()
    try:
        return priority_of(int(text)) if text.lstrip("+-").isdigit() else Priority(text)
    except ValueError:
        names = ", ".join(PRIORITIES)
        raise BadArgumentError(f"x-hotseat-priority must be one of {names}, or an integer from -5 to 5") from None

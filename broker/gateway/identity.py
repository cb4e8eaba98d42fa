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
from collections.abc import Mapping
from typing import Any

import msgspec

from broker.core.errors import BadArgumentError, RequestError
from broker.core.lease import PRIORITIES, RANK, Priority, priority_of
from broker.gateway.conversations import CHOSEN, Asker, Hints, Sightings, beginning_of, named_by
from broker.gateway.forms import FormError, Places, form_of
from broker.routing.sessions import one_session

PRIORITY_HEADER = b"x-hotseat-priority"
_LABEL = re.compile(r"[^\u0000-\u001f\u007f-\u009f{}\u2028\u2029]{1,256}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")


class UnreadableError(RequestError):
    """The body is not what the endpoint takes."""

    code = "malformed"


class UnknownNameError(RequestError):
    """No model can have this name."""

    code = "unknown_model"


class _Body(Hints, frozen=True):
    """What routing reads; every other field is skipped."""

    model: Any = None
    stream: Any = None


_read = msgspec.json.Decoder(_Body).decode


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request as routing sees it."""

    model: str
    stream: bool
    hints: Hints
    """What the body says of its conversation."""
    model_at: Places = ()
    """Of a form: where in its body the model's name is, begin and end."""


class Identity(msgspec.Struct, frozen=True):
    """Whose request it is."""

    session: str
    named: bool
    """Did the client name the session? Else many conversations may share it."""
    marked: str
    """The name under which it is private or not: what conversations without an id of their own share, and one whose id
    was not believed at first, is private for all of them."""
    also: tuple[str, ...] = ()
    """Other names under which it is: the id that the client sent, whether it is believed or not, for another broker may
    think otherwise of it; without an id the API key, for an address changes."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Every name under which it is private or not."""
        return tuple(dict.fromkeys((self.marked, *self.also)))


def asked_of(body: bytes, content_type: bytes = b"") -> Asked:
    """Read what routing needs, of a JSON object or of a form with files.

    Raises:
        UnreadableError: Neither of them, or no model in it.
        UnknownNameError: A model name that no catalogue can hold.
    """
    try:
        is_form = content_type[:10].lower() == b"multipart/"
        read, model_at = _form(body, content_type) if is_form else (_read(body), ())
    except (FormError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableError(f"the body cannot be read: {error}") from None
    if not isinstance(read.model, str) or not read.model:
        raise UnreadableError("the body must name a model: a string in the field 'model'")
    if not _MODEL.fullmatch(read.model):
        raise UnknownNameError("there is no such model; GET /v1/models lists what there is")
    return Asked(
        model=read.model,
        stream=read.stream is True,
        hints=read,
        model_at=model_at,
    )


def _form(body: bytes, content_type: bytes) -> tuple[_Body, Places]:
    form = form_of(body, content_type, frozenset({"model", "stream", "user"}))
    texts = form.texts
    read = _Body(model=texts.get("model"), stream=texts.get("stream") == "true", user=texts.get("user"))
    return read, form.places.get("model", ())


def identify(
    headers: Mapping[bytes, bytes],
    asked: Asked,
    asker: Asker,
    sightings: Sightings,
    fingerprint: str,
    span_session: str | None = None,
) -> Identity:
    """The session, by the order above; one that cannot be a label is replaced by its hash."""
    if chosen := headers.get(CHOSEN, b"").decode("utf-8", "replace").strip():
        return Identity(_label(chosen), named=True, marked=_label(chosen))
    shared = _label("@".join(part for part in asker if part))
    claimed: tuple[str, ...] = ()
    for named in named_by(headers, asked.hints, span_session):
        claimed = claimed or (_label(named.value),)
        sight = sightings.sight_of(asker, named, fingerprint)
        if sight.believed:
            session = _label(named.value)
            return Identity(session, named=True, marked=shared if sight.late else session, also=claimed)
    also = (*claimed, _label(asker[0]))
    beginning = beginning_of(asked.hints)
    if beginning is not None and sightings.is_told_apart(asker, beginning):
        return Identity(_label(f"{shared}#{beginning.digest[:8]}"), named=False, marked=shared, also=also)
    return Identity(shared, named=False, marked=shared, also=also)


def _label(text: str) -> str:
    if _LABEL.fullmatch(text):
        return text
    if _LABEL.fullmatch(plain := one_session(text)):
        return plain
    return "sha256:" + hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def priority_for(headers: Mapping[bytes, bytes], most_urgent: Priority, usual: Priority | None = None) -> Priority:
    """The class a request asks for; without the header the key's usual one, or what the key may have at most.

    Raises:
        BadArgumentError: No such class.
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

"""What the error of a model server says, in whatever form it says it.

OpenAI's and Anthropic's envelopes, vLLM's flat object, Ollama's text, FastAPI's ``detail``, problem documents, plain
text, and the page of a proxy in between.
"""

import re
from html import unescape
from typing import Any

import msgspec

from broker.answers.documents import Document, table_in
from broker.answers.reading import json_of

MOST = 2000
"""Characters of a message that are kept; the rest is cut off."""
MAX_ERROR_READ = 64 * 1024
"""Bytes of an error that are read."""
_PAGE = 8 * 1024
"""Characters of a page that are looked at."""
_NESTED = 4
"""How many errors within one another are followed."""
_WORDS = ("message", "detail", "error", "msg", "error_message", "reason", "title", "description")
"""Where the text of an error stands, the likeliest first."""
_UNSEEN = re.compile(r"<(script|style|svg|title|head(?=[\s>]))\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title\b[^>]*>(.*?)</title\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]{0,2000}>")
_GAPS = re.compile(r"[\s\x00-\x1f\x7f]+")


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What one error says. Words that are not there are None; a message without a word is empty."""

    message: str
    kind: str | None = None
    """The error's ``type`` field."""
    code: str | int | None = None
    param: str | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status that its code is, if it is one."""
        text = str(self.code)
        return int(text) if len(text) == 3 and text.isascii() and text.isdecimal() and text[0] in "45" else None


def said_by(body: bytes) -> Said:
    """Read the error out of a whole answer, as far as it is there."""
    body = body[:MAX_ERROR_READ]
    value = json_of(body)
    if isinstance(value, str):
        return Said(message=_text(value))
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        return said_in(value)
    text = body.decode("utf-8", "replace")
    return Said(message=_page(text) if text.lstrip()[:1] == "<" else _text(text))


def said_in(document: Document) -> Said:
    """Read the error out of a JSON document, or out of an event's data."""
    error = _error_of(document)
    kind, param = error.get("type", document.get("error_type")), error.get("param")
    code = error.get("code", error.get("status"))
    return Said(
        message=_message_in(error, _NESTED),
        kind=kind[:64] if isinstance(kind, str) and kind else None,
        code=code if _is_code(code) else None,
        param=param[:256] if isinstance(param, str) else None,
    )


def _error_of(document: Document) -> Document:
    """The object that tells of the error: the document itself, or one in it."""
    for name in ("error", "detail"):
        if found := table_in(document.get(name)):
            return found
    errors = document.get("errors")
    return table_in(errors[0]) or document if isinstance(errors, list) and errors else document


def _is_code(code: object) -> bool:
    return (isinstance(code, str) and 0 < len(code) <= 64) or (isinstance(code, int) and not isinstance(code, bool))


def _message_in(value: Any, depth: int) -> str:
    """Find the text in it; of several complaints (FastAPI's) each is told with its place."""
    if isinstance(value, str):
        return _text(value)
    if depth and isinstance(value, list):
        return _text("; ".join(filter(None, (_complaint(each, depth - 1) for each in value[:8]))))
    if depth and isinstance(value, dict):
        for name in _WORDS:
            if found := _message_in(value.get(name), depth - 1):
                return found
    return ""


def _complaint(value: Any, depth: int) -> str:
    message = _message_in(value, depth)
    where = table_in(value).get("loc")
    return f"{'.'.join(map(str, where[:8]))}: {message}" if isinstance(where, list) and message else message


def _page(text: str) -> str:
    """Return what a person would see of a web page."""
    text = text[:_PAGE]
    title = _TITLE.search(text)
    seen = _text(unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text))))
    head = _text(unescape(_TAG.sub(" ", title[1]))) if title else ""
    return seen if not head or seen.startswith(head) else _text(f"{head}: {seen}" if seen else head)


def _text(text: str) -> str:
    return _GAPS.sub(" ", text[:MAX_ERROR_READ]).strip()[:MOST]

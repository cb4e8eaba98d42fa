"""The privacy firewall: which requests may never leave. It is asked before anything else, and in doubt it says private.

1. The key, the session, the header or the name asked for says so.
2. A part of the body cannot be read, or the body is too large to be looked through.
3. A picture is marked as a screenshot or a photograph.
4. The operator's own patterns.
5. Paths and credentials, by patterns of ours.
6. Secrets, by a scanner with rules for hundreds of providers; one that fails finds one.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from broker.routing.patterns import holds_a_credential, names_a_path
from broker.routing.request import Content, Described, Kind

FindSecret = Callable[[str], bool]
"""Does a text hold a secret?"""


class Because(StrEnum):
    """Why a request is private."""

    KEY = "key"
    SESSION = "session"
    HEADER = "header"
    MODEL = "model"
    HIDDEN = "hidden"
    LARGE = "large"
    IMAGE = "image"
    PATTERN = "pattern"
    PATH = "path"
    CREDENTIAL = "credential"
    SECRET = "secret"  # noqa: S105 - a word of ours
    SCANNER = "scanner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall:
    """What makes a request private. Without a scanner every content is."""

    find_secret: FindSecret | None = None
    patterns: tuple[re.Pattern[str], ...] = ()
    """The operator's own."""
    look_through_bytes: int = 8 * 1024 * 1024
    """A larger body is private unread: looking through it would hold up everybody else."""

    def because(self, request: Described, *, session_private: bool, name_private: bool) -> Because | None:
        """Why a request may not leave; None: it may. The content is read only when nothing simpler says so."""
        # 1. A kind that no upstream takes is not looked into.
        marks = (
            (request.key_private, Because.KEY),
            (session_private, Because.SESSION),
            (request.header_private, Because.HEADER),
            (name_private, Because.MODEL),
        )
        for said, because in marks:
            if said:
                return because
        if request.kind is Kind.OTHER:
            return None
        # 2.
        if request.size_bytes > self.look_through_bytes:
            return Because.LARGE
        return self._content(request.content.read())

    def _content(self, content: Content) -> Because | None:
        if content.hidden:
            return Because.HIDDEN
        # 3.
        if any(image.marked for image in content.images):
            return Because.IMAGE
        text = "\n".join(content.texts)
        # 4.
        if any(pattern.search(text) for pattern in self.patterns):
            return Because.PATTERN
        # 5.
        if names_a_path(text):
            return Because.PATH
        if holds_a_credential(text):
            return Because.CREDENTIAL
        # 6.
        return self._secret(text)

    def _secret(self, text: str) -> Because | None:
        if self.find_secret is None:
            return Because.SCANNER
        try:
            return Because.SECRET if self.find_secret(text) else None
        except Exception:  # noqa: BLE001 - fails closed, whatever went wrong in there
            return Because.SCANNER

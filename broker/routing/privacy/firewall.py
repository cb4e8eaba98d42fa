"""The privacy firewall: which requests may never leave. It is asked before anything else, and in doubt it says private.

1. The key, the session, the header or the name asked for says so.
2. A part of the body cannot be read, or the body is too large to be looked through.
3. A picture is marked as a screenshot or a photograph.
4. The operator's own patterns.
5. Paths and credentials, by patterns of ours.
6. Indicators: the owner's words and local paths, or a stricter rule.
7. Secrets, by a scanner with rules for hundreds of providers; one that fails finds one.

A look that would cost more than it may ends there, and the request is private.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from broker.routing.privacy.credentials import holds_a_credential
from broker.routing.privacy.indicators import Indicators, Sign, sign_in
from broker.routing.privacy.secret_paths import names_a_secret_path
from broker.routing.request.request import UNREAD, Described
from broker.routing.text.work import TooCostlyError, Work

FindSecret = Callable[[str], bool]
"""Tells whether a text holds a secret."""


class Because(StrEnum):
    """Why a request is private."""

    KEY = "key"
    SESSION = "session"
    UNSETTLED = "unsettled"
    """Nobody can say whether its session was private: the store is away, or has changed hands."""
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
    COSTLY = "costly"
    """It would be too much work to look through."""


PrivacyCause = Because | Sign
"""Why a request is private: one of our own reasons, or the sign that an indicator's rule found."""

SCANNED = 256 * 1024
"""How many characters the scanner is given at once."""
SCANNED_TWICE = 4096
"""How many of those characters it gets again with the next piece: no secret is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall:
    """Decides what makes a request private. Without a scanner every content does."""

    find_secret: FindSecret | None = None
    patterns: tuple[re.Pattern[str], ...] = ()
    """Patterns of the operator's own; a text in which one is found is private."""
    look_through_bytes: int = 8 * 1024 * 1024
    """A larger body is private unread: looking through it would hold up everybody else."""
    indicators: Indicators = Indicators.OWNER

    def because(self, request: Described, *, session_private: bool, name_private: bool) -> PrivacyCause | None:
        """Tell why a request may not leave; None: it may. The content is read only when nothing simpler decides."""
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
        if request.kind in UNREAD:
            return None
        # 2.
        if request.size_bytes > self.look_through_bytes:
            return Because.LARGE
        content = request.content.read()
        if content.hidden:
            return Because.COSTLY if content.hidden == Because.COSTLY else Because.HIDDEN
        # 3.
        if any(image.marked for image in content.images):
            return Because.IMAGE
        try:
            return self._said("\n".join(content.texts), request.work)
        except TooCostlyError:
            return Because.COSTLY

    def _said(self, text: str, work: Work) -> PrivacyCause | None:
        # 4.
        if any(pattern.search(text) for pattern in self.patterns):
            return Because.PATTERN
        # 5.
        if names_a_secret_path(text, work):
            return Because.PATH
        if holds_a_credential(text, work):
            return Because.CREDENTIAL
        # 6.
        if sign := sign_in(text, self.indicators, work):
            return sign
        # 7.
        return self._secret(text, work)

    def _secret(self, text: str, work: Work) -> Because | None:
        if self.find_secret is None:
            return Because.SCANNER
        for begin in range(0, len(text), SCANNED):
            piece = text[max(0, begin - SCANNED_TWICE) : begin + SCANNED]
            work.spend(len(piece) // 2)
            try:
                found = self.find_secret(piece)
            except Exception:  # noqa: BLE001 - fails closed, whatever went wrong in there
                return Because.SCANNER
            if found:
                return Because.SECRET
        return None

"""What a text says to a reader but not to a pattern: invisible characters, letters in another form, escapes.

A model reads a key in full-width letters, or with zero-width spaces in it, as what it is. Letters of other alphabets
that only look alike are left as they are. Ordinary texts have a few such characters, so only their surroundings are
given back: the text twice would be looked through at twice the price.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Literal
from urllib.parse import unquote

from broker.routing.text.literals import WINDOW

NEAR = 256
"""How many characters before and after are looked at, at the least: the longest keys on one line have fewer."""
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties 16), and the marks of interlinear annotation."""
_OTHER_FORMS = (
    "\u00aa\u00b2\u00b3\u00b9\u00ba\u0132\u0133\u013f\u0140\u0149\u017f\u01c4-\u01cc\u01f1-\u01f3\u02b0-\u02b8"
    "\u02e0-\u02e4\u1d2c-\u1d6a\u1d78\u1d9b-\u1dbf\u1e9a\u2024\u2044\u2070-\u209c\u20a8\u2100-\u2149\u2160-\u217f"
    "\u2215\u2236\u2460-\u24ff\u2a74-\u2a76\u2c7c\u2c7d\u3250-\u33ff\ua69c\ua69d\ua7f2-\ua7f4\ufb00-\ufb06\ufb29"
    "\ufe10-\ufe19\ufe30-\ufe34\ufe4d-\ufe6b\uff01-\uff5e\U00010780-\U000107ba\U0001d400-\U0001d7ff"
    "\U0001ee00-\U0001eeff\U0001f100-\U0001f1ff\U0001fbf0-\U0001fbf9"
)
"""Where compatibility (NFKC) makes ASCII letters, digits or signs of something else; without fractions and ellipses."""
_HIDES = re.compile(f"[{_INVISIBLE}{_OTHER_FORMS}]")
_UNSEEN = re.compile(f"[{_INVISIBLE}]+")

STEP = 512
"""Characters whose forms are undone at once: many marks on one letter cost the square of their number."""
_ESCAPED = re.compile(r"\\(?:u00|x)([2-7][0-9a-fA-F])|\\/")
"""JSON's and other languages' escapes of letters that secrets consist of, in a text that is no JSON as a whole."""
_PERCENT = re.compile(r"%(?:2[dDeEfF]|3[aA]|4[0-9a-fA-F]|5[cCfF]|[57][0-9aA]|6[1-9a-fA-F])")
"""Escapes of letters, and of what is between the parts of a path, in an address."""
_ENTITY = re.compile(r"&(?:#[0-9xX]|sol;|bsol;|colon;|period;|equals;|lowbar;|commat;|quot;|apos;|nbsp;)")
_ACCENT = re.compile("[\u0300-\u036f\u1100-\u11ff\u3099\u309a]")
"""Written beside its letter instead of with it, as in names of files on a Mac."""
_TERMINAL = re.compile(
    r"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,512}(?:\x07|\x1b\\)|[@-Z\\^_])|[^\x08\n]\x08"
)
"""A terminal's colours, titles and overstrikes."""


def readings(text: str) -> Iterator[str]:
    """What of a text is read otherwise than it is written; of letters in another form just their surroundings."""
    if read := plain(text):
        yield read
    if not text.isascii() and _ACCENT.search(text):
        yield _by_steps("NFC", text)
    if "\\" in text and _ESCAPED.search(text):
        yield _ESCAPED.sub(_undone, text)
    if "%" in text and _PERCENT.search(text):
        yield unquote(text)
    if "&" in text and _ENTITY.search(text):
        yield html.unescape(text)
    if ("\x1b" in text or "\x08" in text) and _TERMINAL.search(text):
        yield _TERMINAL.sub("", text)


def _undone(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else "/"


def without_invisible(text: str) -> str:
    """The text without what does not show."""
    return _UNSEEN.sub("", text)


def plain(text: str) -> str:
    """The surroundings of what is not read as it is written, as they are read, a line each; empty: there is nothing.

    Window by window, as :mod:`broker.routing.patterns` has it: no step takes long.
    """
    if text.isascii():
        return ""
    excerpts = (_UNSEEN.sub("", text[begin:end]) for begin, end in _surroundings(text))
    return "\n".join(_by_steps("NFKC", excerpt) for excerpt in excerpts)


def _by_steps(form: Literal["NFC", "NFKC"], text: str) -> str:
    """A letter whose accents fall into the next step is read without them."""
    return "".join(unicodedata.normalize(form, text[at : at + STEP]) for at in range(0, len(text), STEP))


def _surroundings(text: str) -> Iterator[tuple[int, int]]:
    """Begin and end, in order and apart from each other."""
    first = last = -1
    for begin in _touched(text):
        if begin - NEAR > last >= 0:
            yield first, last
            first = -1
        first = max(0, begin - NEAR) if first < 0 else first
        last = begin + 2 * NEAR
    if last >= 0:
        yield first, last


def _touched(text: str) -> Iterator[int]:
    """Where blocks of ``NEAR`` characters begin that have such a character."""
    for begin in range(0, len(text), WINDOW):
        window = text[begin : begin + WINDOW]
        if not window.isascii() and _HIDES.search(window):
            yield from (begin + at for at in range(0, len(window), NEAR) if _HIDES.search(window, at, at + NEAR))

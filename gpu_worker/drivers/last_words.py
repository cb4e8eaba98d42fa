"""The last words of a model server, as they may be shown to whoever waits for it: few, printable, without secrets."""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

READ_BYTES = 16 * 1024
"""Of the end of its log."""
LIMIT = 400
"""Characters shown."""
LINES = 4
PARTIAL_BYTES = 1024
"""Of a line whose beginning was cut off so much is dropped: a secret that was cut in two is not recognised."""
SHORTEST_SECRET = 6
HIDDEN = "[secret]"

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TELLING = re.compile(
    r"error|fail|invalid|cannot|can't|couldn't|unable|no such|not found|denied|unknown|unrecogni[sz]ed|out of memory"
    r"|abort|exception|terminate|what\(\)|usage:|missing|required",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
_SHAPES = re.compile(
    r"(?<=://)[^/\s@]*:[^/\s@]*(?=@)"
    r"|\b(?:sk|hf|hsk|gsk|ghp|gho|ghs|github_pat|glpat|xox[abps]|nvapi|AKIA)[-_]?[A-Za-z0-9_-]{12,}"
    r"|(?i:(?<=bearer )\S+)"
    r"|(?i:(?<=basic )[A-Za-z0-9+/=]{8,})"
)
_NAMED = re.compile(
    r"(?i)(\b[\w-]*(?:api[-_]?key|token|secret|passw(?:or)?d|passphrase|credentials?)[\"']?(?:\s*[=:]\s*|\s+is\s+)[\"']?)"
    r"([^\s\"',;&]{3,})"
)


def secrets_of(command: Iterable[str], env: Mapping[str, str], key: str) -> frozenset[str]:
    """What of a launch must not be shown: its key, and what its environment and arguments call by a secret's name."""
    words = list(command)
    found = {value for name, value in env.items() if _SECRET_NAME.search(name)}
    for word, following in pairwise([*words, ""]):
        option, _, value = word.partition("=")
        if option.startswith("-") and _SECRET_NAME.search(option) and "file" not in option:
            found.add(value or following)
    placeholders = {word for word in found if word.startswith(("{", "-"))}
    return frozenset(word for word in {*found, key} - placeholders if len(word) >= SHORTEST_SECRET)


def last_words(log: bytes, secrets: Iterable[str], *, whole: bool) -> str:
    """The telling lines of the end of a log, in one.

    Args:
        log: The end of it.
        secrets: Removed wherever they stand; so is what looks like one.
        whole: Does ``log`` begin at the beginning of the file?
    """
    text = _ESCAPES.sub("", _from_a_line_on(log, whole=whole).decode("utf-8", "replace"))
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _NAMED.sub(rf"\1{HIDDEN}", _SHAPES.sub(HIDDEN, text))
    lines = ["".join(c for c in line if c.isprintable()).strip() for line in text.splitlines()]
    return cut(" | ".join(_chosen([line for line in lines if line])))


def _from_a_line_on(log: bytes, *, whole: bool) -> bytes:
    if whole:
        return log
    _, _, rest = log.partition(b"\n")
    return rest if rest.strip() else log[PARTIAL_BYTES:]


def _chosen(lines: list[str]) -> list[str]:
    """The last ones that tell of trouble, and the very last one; without any the last ones."""
    telling = [number for number, line in enumerate(lines) if _TELLING.search(line)]
    numbers = {*telling[-LINES:], len(lines) - 1} if telling else set(range(len(lines))[-LINES:])
    return [lines[number] for number in sorted(numbers) if number >= 0]


def cut(text: str, limit: int = LIMIT) -> str:
    """The end of it, which says more than the beginning."""
    return text if len(text) <= limit else "…" + text[1 - limit :]

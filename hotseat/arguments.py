"""Command lines whose errors are in the words of the command line, with the nearest names where one is mistyped."""

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

PRIORITIES = ("interactive", "normal", "background", "batch")
LONGEST_S = 86_400.0
LONGEST_LABEL = 256
LONGEST_HOLDER = 128
_MODEL_START = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_MODEL_SIGNS = frozenset(_MODEL_START + "._:/@-")


class CommandLine(argparse.ArgumentParser):
    """As argparse's, but for what it says of a mistake."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: object = None) -> argparse.Namespace:  # type: ignore[override]
        """Refuse what is not known, with what may have been meant."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            self.error(f"no such argument: {word}{meant(word, self._option_string_actions)}")
        return known  # type: ignore[return-value]

    def error(self, message: str) -> NoReturn:
        """`--ttl must be at least 1 second`, not `argument --ttl: …`."""
        if message.startswith("argument ") and ": must " in message:
            message = message.removeprefix("argument ").replace(": must ", " must ", 1)
        super().error(message)


def near(word: str, names: Iterable[str]) -> list[str]:
    """The names that may have been meant, likeliest first, three at most."""
    import difflib  # noqa: PLC0415 - only who mistypes pays for it

    by_small = {name.lower(): name for name in names}
    found = [by_small[small] for small in difflib.get_close_matches(word.lower(), by_small, n=3, cutoff=0.6)]
    found += [name for small, name in by_small.items() if word and word.lower() in small and name not in found]
    return found[:3]


def meant(word: str, names: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing."""
    found = near(word, names)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def seconds(least_s: float, most_s: float = LONGEST_S) -> Callable[[str], float]:
    """The type of an argument in seconds; a least of 0 excludes 0 itself."""

    def read(text: str) -> float:
        value_s = _number(text, "a number of seconds")
        if least_s == 0 and value_s <= 0:
            raise argparse.ArgumentTypeError(f"must be more than 0 seconds, not {text}")
        if value_s < least_s:
            raise argparse.ArgumentTypeError(f"must be at least {_seconds(least_s)}, not {text}")
        if value_s > most_s:
            raise argparse.ArgumentTypeError(f"must be at most {_seconds(most_s)}, not {text}")
        return value_s

    return read


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """The type of an argument that is one of a few words."""

    def read(text: str) -> str:
        if text not in names:
            listed = f"{', '.join(names[:-1])} or {names[-1]}"
            raise argparse.ArgumentTypeError(f"must be {listed}, not {text!r}{meant(text, names)}")
        return text

    return read


def priority(text: str) -> str | int:
    """The type of an argument that is a class, by name or by number."""
    if text in PRIORITIES:
        return text
    if text.lstrip("+-").isdecimal() and -5 <= int(text) <= 5:
        return int(text)
    listed = f"{', '.join(PRIORITIES)}, or a whole number from -5 to 5"
    raise argparse.ArgumentTypeError(f"must be {listed}; not {text!r}{meant(text, PRIORITIES)}")


def model(text: str) -> str:
    """The type of an argument that names a model."""
    if not (0 < len(text) <= 128 and text[0] in _MODEL_START and set(text) <= _MODEL_SIGNS):
        raise argparse.ArgumentTypeError(f"must be a model's name as `hotseat ps` shows it, not {text!r}")
    return text


def label(most: int = LONGEST_LABEL) -> Callable[[str], str]:
    """The type of an argument that names somebody: a session, a holder."""

    def read(text: str) -> str:
        if not text or len(text) > most:
            raise argparse.ArgumentTypeError(f"must have 1 to {most} characters, not {len(text)}")
        if bad := next((sign for sign in text if _is_no_label(sign)), None):
            raise argparse.ArgumentTypeError(f"must not contain {bad!r}")
        return text

    return read


def _is_no_label(sign: str) -> bool:
    """As the broker judges: controls, line ends, braces; and what is no text at all (bytes of another encoding)."""
    return sign < " " or "\x7f" <= sign <= "\x9f" or sign in "{}\u2028\u2029" or "\ud800" <= sign <= "\udfff"


def add_url(parser: argparse.ArgumentParser) -> None:
    """What every command that speaks with a broker has."""
    parser.add_argument("--url", help="broker's address (HOTSEAT_URL; http://127.0.0.1:4687)")


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")
    return value


def _seconds(value_s: float) -> str:
    return f"{value_s:g} second" if value_s == 1 else f"{value_s:g} seconds"

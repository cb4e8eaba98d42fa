"""Arguments of the commands that talk to a broker: each is refused in words that say what it must be."""

import argparse
import math
from collections.abc import Callable

from schemas.command_line import meant

PRIORITIES = ("interactive", "normal", "background", "batch")
LONGEST_S = 86_400.0
HIGHEST_PORT = 65_535
LONGEST_LABEL = 256
LONGEST_HOLDER = 128
_MODEL_START = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_MODEL_SIGNS = frozenset(_MODEL_START + "._:/@-")


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


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
        return value

    return read


def number_of_seconds(text: str) -> float:
    """The type of an argument in seconds, which may be none."""
    value_s = _number(text, "a number of seconds")
    if not 0 <= value_s <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"must be from 0 to {_seconds(LONGEST_S)}, not {text}")
    return value_s


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
    """Judge as the broker does: controls, line ends, braces; and what is no text at all (bytes of another encoding)."""
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

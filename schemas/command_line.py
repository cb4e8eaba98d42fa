"""Command lines whose errors are in the words of the command line, with the nearest names where one is mistyped."""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn


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


def add_config(parser: argparse.ArgumentParser) -> None:
    """What every part that reads ``hotseat.toml`` has."""
    default = os.environ.get("HOTSEAT_CONFIG")
    path = Path(default) if default else None
    parser.add_argument("--config", type=Path, default=path, help="hotseat.toml (or HOTSEAT_CONFIG)")


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


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """The type of an argument that is one of a few words."""

    def read(text: str) -> str:
        if text not in names:
            listed = f"{', '.join(names[:-1])} or {names[-1]}"
            raise argparse.ArgumentTypeError(f"must be {listed}, not {text!r}{meant(text, names)}")
        return text

    return read

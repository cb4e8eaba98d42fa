"""A rival's command line for a model server, as ours: a list of words, with places for what the worker fills in."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePath

PORT = "{port}"
CONTAINERS = frozenset({"docker", "podman", "nerdctl", "apptainer", "singularity"})
SHELLS = frozenset({"sh", "bash", "zsh", "dash", "fish", "cmd", "powershell", "pwsh"})
FILLED = {
    "--host": "{host}",
    "--port": PORT,
    "--alias": "{served_name}",
    "--api-key-file": "{api_key_file}",
}
"""llama-server's options whose values the worker decides, in the order in which missing ones are added."""

_SHORT = {"-m": "--model", "-a": "--alias", "-np": "--parallel"}
_VALUED = frozenset({*FILLED, "--model", "--parallel", "--api-key", "--mmproj"})
_BRACES = re.compile(r"\{[a-z_]+\}")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class CommandError(ValueError):
    """The command cannot be ours; the message says why."""


@dataclass(slots=True, kw_only=True)
class Command:
    """What was learned from one."""

    words: tuple[str, ...] = ()
    model_path: str | None = None
    alias: str | None = None
    parallel: int | None = None
    kind: str = "chat"
    files: list[str] = field(default_factory=list)
    has_key: bool = False
    """It names an API key; ours is made anew at every start."""


def words_of(text: str) -> list[str]:
    """Split as llama-swap does: comment lines out, lines joined, then a shell's quoting without a shell.

    Raises:
        CommandError: Empty, or a quote without its end.
    """
    lines = [line.strip() for line in text.splitlines()]
    joined = " ".join(line.removesuffix("\\") for line in lines if line and not line.startswith("#"))
    try:
        words = shlex.split(joined)
    except ValueError as error:
        raise CommandError(f"cannot be split into words: {str(error).lower()}") from None
    if not words:
        raise CommandError("is empty")
    return words


def llama_server_command(words: list[str]) -> Command:
    """Make llama-server's command ours.

    Args:
        words: With ``{port}`` where the rival fills in the port.

    Raises:
        CommandError: Another program, or one that the worker cannot own.
    """
    program = _program_at(words)
    if "\x00" in "".join(words):
        raise CommandError("holds a NUL character")
    found = Command()
    result = words[: program + 1]
    rest = iter(words[program + 1 :])
    for word in rest:
        option = _SHORT.get(word, word)
        if option not in _VALUED:
            result.append(word)
            found.kind = "embedding" if option in {"--embedding", "--embeddings"} else found.kind
            continue
        if (value := next(rest, None)) is None:
            raise CommandError(f"{word} has no value")
        result += _valued(found, option, word, value)
    if strange := next((w for w in result if w not in {*FILLED.values(), "{model_path}"} and _BRACES.search(w)), None):
        raise CommandError(f"the argument {strange!r} holds braces, which our commands fill in")
    for option, place in FILLED.items():
        if option not in result:
            result += [option, place]
    found.words = tuple(result)
    return found


def size_mib(paths: list[str]) -> int | None:
    """Memory to expect for these weights, MiB: a tenth and 512 MiB more than the files; None: not on this machine."""
    total = 0
    for name in paths:
        path = Path(name)
        split = _PART.search(path.name)
        parts = [path]
        if split is not None and int(split[2]) <= 1000:
            stem = path.name[: split.start()]
            parts = [path.with_name(f"{stem}-{n:05}-of-{split[2]}.gguf") for n in range(1, int(split[2]) + 1)]
        try:
            total += sum(part.stat().st_size for part in parts)
        except (OSError, ValueError):
            return None
    return int(total / 2**20 * 1.1) + 512 if paths else None


def _program_at(words: list[str]) -> int:
    first = PurePath(words[0].replace("\\", "/")).name.lower().removesuffix(".exe")
    if first in CONTAINERS:
        raise CommandError("starts a container: the worker starts processes, and could not end or measure it")
    if first in SHELLS:
        raise CommandError("is a shell's: the worker starts programs without one")
    for index, word in enumerate(words):
        if PurePath(word.replace("\\", "/")).name.startswith("llama-server"):
            return index
    raise CommandError(f"{first!r} is no llama-server: it is not known how it takes an API key from a file")


def _valued(found: Command, option: str, word: str, value: str) -> list[str]:
    """What an option with a value becomes; what it says is noted."""
    if option == "--model":
        found.model_path = value
        found.files.append(value)
        return [word, "{model_path}"]
    if option == "--mmproj":
        found.files.append(value)
    if option == "--parallel" and value.isdecimal() and len(value) < 5:
        found.parallel = int(value)
    if option == "--alias":
        found.alias = value
    if option in {"--api-key", "--api-key-file"}:
        found.has_key = True
        return []
    return [option, FILLED[option]] if option in FILLED else [word, value]

"""A command line for a model server, in words; what was learned from one; and the size of the weights it names."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hotseat.migration.command_lines.kinds import EVERY, kind_by_name
from hotseat.migration.command_lines.programs import CommandError, OtherKindError

PORT, KEY = "{port}", "{api_key}"
LLAMA_ENV = {"LLAMA_API_KEY": KEY, "LLAMA_ARG_HOST": "{host}", "LLAMA_ARG_ALIAS": "{served_name}"}
"""Environment of a llama-server behind a script: its command line wins over it, but for the key, of which it has
several."""
VLLM_ENV = {"VLLM_API_KEY": KEY}
SHORT = {"-m": "--model", "-a": "--alias", "-np": "--parallel", "-mm": "--mmproj", "--rerank": "--reranking"}
KINDS = {"--embedding": "embedding", "--embeddings": "embedding", "--reranking": "rerank"}
PLACES = frozenset({"{host}", PORT, "{served_name}", "{api_key_file}", "{model_path}", KEY})
MOST_PARALLEL = 10_000

_BRACES = re.compile(r"\{[a-z_]+\}")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the imported configuration says beside the command."""

    port: int | None = None
    """The port on which the server listens, if that is written down."""
    name: str = ""
    """Name of the model; empty: it has none."""
    kind: str = ""
    """Kind of the model, if that is said."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that the server is started with."""


@dataclass(slots=True, kw_only=True)
class Command:
    """What was learned from one command line."""

    words: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    model_path: str | None = None
    alias: str | None = None
    parallel: int | None = None
    """How many requests it takes at a time, if it says so."""
    is_wide: bool = False
    """It takes many requests at a time, also where it does not say so."""
    kind: str = "chat"
    sees: bool = False
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What about it is not as it was, in words for people."""
    downloads: bool = False
    """It may use what is in the environment of whoever starts it, such as tokens and caches."""
    has_key: bool = False
    """It names an API key; ours is made anew at every start."""
    bare: list[str] = field(default_factory=list)
    """The words without the shell around them; cards are looked for here."""

    def note_options(self, words: list[str]) -> None:
        """Note what llama-server's and vLLM's options say, wherever they stand."""
        for word, value in pairwise([*words, ""]):
            option = SHORT.get(word, word)
            self.kind = KINDS.get(option, self.kind)
            if option in {"--alias", "--served-model-name"}:
                self.alias = value
            if option == "--model" and value.endswith(".gguf"):
                self.files.append(value)
            if option == "--parallel":
                self.parallel = count_in(value)

    def need_port(self, about: About) -> None:
        """Look for the place of the port.

        Raises:
            CommandError: The worker could not say where it is to listen.
        """
        if not any(PORT in word for word in (*self.words, *self.env.values(), *about.env.values())):
            where = f" ({about.port} is in a file of its own?)" if about.port is not None else ""
            raise CommandError(f"has no place for the port, which the worker chooses{where}")

    def note_unknown(self, what: str) -> None:
        """Note that it is not known how it takes its key."""
        self.notes.append(
            f"{what} is started as it is, for a model of kind {self.kind}. It must list the model as served_name at "
            "/v1/models; its key is in LLAMA_API_KEY and VLLM_API_KEY: if it takes it from neither, it serves whoever "
            "reaches its port"
        )

    def settle_kind(self, about: About, names: Iterable[str]) -> None:
        """Take the kind that is said, else what an option says, else what names say, the model's first.

        Raises:
            OtherKindError: They are those of a model that is none of ours.
        """
        self.kind = about.kind or self.kind
        if about.kind or self.kind != "chat":
            return
        if (kind := kind_by_name([about.name, *names])) is None:
            raise OtherKindError(f"by its name it serves sound or pictures: kinds are {EVERY}")
        if kind != self.kind:
            self.kind = kind
            self.notes.append(f"is taken for a model of kind {kind} by its name")

    def check(self) -> None:
        """Look at what our own commands would fill in.

        Raises:
            CommandError: It has braces that are not ours, or are, and are somebody else's.
        """
        for word in self.words:
            if strange := next((place for place in _BRACES.findall(word) if place not in PLACES), None):
                shown = word if len(word) < 60 else strange
                raise CommandError(f"the argument {shown!r} holds braces, which our commands fill in")
        if any(KEY in word for word in self.words):
            raise CommandError("holds {api_key}, which is for variables alone")
        if "{model_path}" in " ".join(self.words) and self.model_path is None:
            raise CommandError("holds {model_path}, which is for the worker to fill in")
        self.notes += _relative(self)


def _relative(found: Command) -> Iterator[str]:
    """Yield programs and weights whose path is relative to a folder."""
    programs = [word for word in found.words[:2] if re.match(r"[^-/{$~'\" ]+/", word)]
    files = [name for name in found.files if not name.startswith(("/", "~"))]
    for name in (*programs, *files):
        yield f"{name}: a relative path counts from the folder that the worker is started in"


def command_words_of(text: str) -> list[str]:
    """Split a command as llama-swap does: comment lines out, lines joined, then a shell's quoting without a shell.

    Raises:
        CommandError: It is empty, or has a quote without its end.
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


def count_in(text: str) -> int | None:
    """Read a number of requests; None: the text is none, or an absurd one."""
    return int(text) if text.isdecimal() and len(text) < 6 and 0 < int(text) <= MOST_PARALLEL else None


def with_place(text: str, port: int) -> str:
    """Put the place to be filled in where the port was written down."""
    return re.sub(rf"(?<!\d){port}(?!\d)", PORT, text)


def size_mib(paths: list[str]) -> int | None:
    """Reckon the memory for these weights, MiB: a tenth and 512 MiB more than the files; None: not on this machine."""
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

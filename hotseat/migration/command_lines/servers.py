"""Model servers by their command lines: llama.cpp's, vLLM, and any other.

Rule: the two that are known get host, port, name and key as they take them. Any other program or script is started as
it is, its port filled in, and the key in the variables that those two read.
"""

import re
from collections.abc import Mapping
from itertools import pairwise

from hotseat.migration.command_lines.command import (
    KINDS,
    LLAMA_ENV,
    PORT,
    SHORT,
    VLLM_ENV,
    About,
    Command,
    count_in,
    with_place,
)
from hotseat.migration.command_lines.programs import (
    SHELLS,
    CommandError,
    is_llama_server,
    is_of_another_maker,
    is_script,
    name_of,
    program_in,
    refuse_elsewhere,
    refuse_other_kinds,
    vllm_at,
)

FILLED = {"--host": "{host}", "--port": PORT, "--alias": "{served_name}", "--api-key-file": "{api_key_file}"}
"""llama-server's options whose values the worker decides, in the order in which missing ones are added."""
ROUTER = frozenset({"--models-dir", "--models-preset", "--models-max", "--models-autoload"})
MODEL_OPTIONS = frozenset({
    "--model", "-hf", "-hfr", "--hf-repo", "-mu", "--model-url", "-dr", "--docker-repo", "-hff", "--hf-file",
})  # fmt: skip
MODEL_VARIABLES = ("LLAMA_ARG_MODEL", "LLAMA_ARG_HF_REPO", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_DOCKER_REPO")
KIND_VARIABLES = {"LLAMA_ARG_RERANKING": "rerank", "LLAMA_ARG_EMBEDDINGS": "embedding"}
DROPPED = {
    "--ssl-key-file": "the worker and the broker ask it by http, on this host",
    "--ssl-cert-file": "the worker and the broker ask it by http, on this host",
    "--api-prefix": "it is asked at /v1",
}
IS_ROUTER = "is llama-server's router, which loads models itself: give each of them an entry"

_VALUED = frozenset({*FILLED, "--model", "--parallel", "--api-key", "--mmproj", "--pooling", *DROPPED})
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_VLLM_KINDS = {
    "embed": "embedding", "embedding": "embedding", "score": "rerank", "rerank": "rerank", "classify": "rerank",
}  # fmt: skip


def command_in_words(words: list[str], about: About) -> Command:
    """Of a program and its arguments.

    Args:
        words: With ``{port}`` where the rival fills in the port.
        about: What else is said.

    Raises:
        CommandError: It cannot be ours.
    """
    env, words = _peeled(words)
    refuse_elsewhere(words)
    found = _known(words, {**env, **about.env}, about)
    if found is None:
        refuse_other_kinds(words)
        if _is_like_llama(words):
            found = _of_llama(words[:1], words[1:], {**env, **about.env})
            found.notes.append(f"{name_of(words[0])!r} takes llama-server's options, and is given its others too")
        else:
            found = _of_anything(words, about)
    found.env = {**env, **found.env}
    found.bare = words
    return found


def _known(words: list[str], env: Mapping[str, str], about: About) -> Command | None:
    at = next((index for index, word in enumerate(words) if is_llama_server(word)), None)
    if at is not None and not {"-m", "--model"} & set(words[:at]):
        return _of_llama(words[: at + 1], words[at + 1 :], env)
    if (at := vllm_at(words)) is not None:
        return _of_vllm(words[:at], words[at:], about)
    return None


def _peeled(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Variables in front of the program, and the rest; ``env`` with options of its own stays."""
    env: dict[str, str] = {}
    rest = words[1:] if words[0] == "exec" and len(words) > 1 else words
    if len(rest) > 1 and name_of(rest[0]) == "env" and _ASSIGNMENT.fullmatch(rest[1]):
        rest = rest[1:]
    while len(rest) > 1 and (found := _ASSIGNMENT.fullmatch(rest[0])):
        env[found[1]] = found[2]
        rest = rest[1:]
    return env, rest


def _is_like_llama(words: list[str]) -> bool:
    """Another name, and a port and weights as llama-server takes them."""
    if is_script(words[0]) or name_of(words[0]) in SHELLS | {"python", "python3", "uv", "uvx", "node"}:
        return False
    if is_of_another_maker(words[0]):
        return False
    has_weights = any(word in MODEL_OPTIONS - {"--model"} for word in words) or any(
        word.endswith(".gguf") and before in {"-m", "--model"} for before, word in pairwise(words)
    )
    return "--port" in words and has_weights


# ------------------------------------------------------------------------------------------------------- llama-server
def _of_llama(front: list[str], arguments: list[str], env: Mapping[str, str]) -> Command:
    found, result = Command(kind=_kind_in(env)), list(front)
    rest = iter(arguments)
    for word in rest:
        option = SHORT.get(word, word)
        if option in ROUTER:
            raise CommandError(IS_ROUTER)
        found.kind = KINDS.get(option, found.kind)
        found.downloads |= option in MODEL_OPTIONS - {"--model"}
        if option not in _VALUED:
            result.append(word)
            continue
        if (value := next(rest, None)) is None:
            raise CommandError(f"{word} has no value")
        result += _of_llamas_option(found, option, word, value)
    names_a_model = any(_names_a_model(word) for word in arguments) or any(name in env for name in MODEL_VARIABLES)
    if not names_a_model:
        raise CommandError("names no model, so that llama-server is a router, which loads models itself")
    for option, place in FILLED.items():
        if option not in result:
            result += [option, place]
    found.words = tuple(result)
    return found


def _kind_in(env: Mapping[str, str]) -> str:
    """What variables say, as options do."""
    said = (
        kind for name, kind in KIND_VARIABLES.items() if env.get(name, "").lower() in {"1", "true", "on", "enabled"}
    )
    return next(said, "chat")


def _names_a_model(word: str) -> bool:
    return SHORT.get(word, word) in MODEL_OPTIONS or (word.startswith("--") and word.endswith("-default"))


def _of_llamas_option(found: Command, option: str, word: str, value: str) -> list[str]:
    """What an option with a value becomes; what it says is noted."""
    if option == "--model":
        found.model_path = value
        found.files.append(value)
        return [word, "{model_path}"]
    if option == "--mmproj":
        found.files.append(value)
        found.sees = True
    if option == "--pooling" and value == "rank":
        found.kind = "rerank"
    if option == "--parallel":
        found.parallel = count_in(value)
    if option == "--alias":
        found.alias = value.partition(",")[0]
    if option in {"--api-key", "--api-key-file"}:
        found.has_key = True
        return []
    if option in DROPPED:
        found.notes.append(f"{option} is left out: {DROPPED[option]}")
        return []
    return [option, FILLED[option]] if option in FILLED else [word, value]


# --------------------------------------------------------------------------------------------------------------- vLLM
def _of_vllm(front: list[str], arguments: list[str], about: About) -> Command:
    """Its key is in ``VLLM_API_KEY``; an ``--api-key`` would win over that."""
    found, result = Command(env=dict(VLLM_ENV), is_wide=True, downloads=True), list(front)
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if words and not words[0].startswith("-"):
        found.alias = words[0]
    while words:
        option = words.pop(0)
        values = []
        while words and not _is_option(words[0]):
            values.append(words.pop(0))
        result += _of_vllms_option(found, option, values)
    for option, place in (("--host", "{host}"), ("--port", PORT), ("--served-model-name", "{served_name}")):
        result += [option, place]
    found.words = tuple(result)
    found.settle_kind(about, [found.alias or ""])
    return found


def _of_vllms_option(found: Command, option: str, values: list[str]) -> list[str]:
    first = values[0] if values else ""
    if option == "--served-model-name":
        found.alias = first or found.alias
        if len(values) > 1:
            found.notes.append("more than one --served-model-name: the first stays, make the others aliases")
        return []
    if option == "--api-key":
        found.has_key = True
        return []
    if option in {"--host", "--port"}:
        return []
    if option == "--model":
        found.alias = found.alias or first
    if option in {"--task", "--convert", "--runner"}:
        found.kind = _VLLM_KINDS.get(first, found.kind)
    if option == "--max-num-seqs":
        found.parallel = count_in(first)
    return [option, *values]


def _is_option(word: str) -> bool:
    return word.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", word)


# ----------------------------------------------------------------------------------------------------------- any other
def _model_in(words: list[str]) -> str | None:
    """The model of a hub, which servers list by that name."""
    named = (word for before, word in pairwise(words) if before in {"--model", "--model-path", "--model-id"})
    return next((word for word in named if not word.endswith(".gguf")), None)


def _of_anything(words: list[str], about: About) -> Command:
    if PORT not in "".join(words) and about.port is not None:
        words = [with_place(word, about.port) for word in words]
    found = Command(words=tuple(words), env={**LLAMA_ENV, **VLLM_ENV}, downloads=True)
    found.note_options(words)
    if not any(is_script(word) for word in words):
        found.alias = found.alias or _model_in(words)
    found.need_port(about)
    found.settle_kind(about, [word for word in words if not word.startswith("-")])
    found.note_unknown(repr(program_in(words)))
    return found

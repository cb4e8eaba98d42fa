"""Which files of weights a recipe loads, and how many bytes that is in all.

Rule: a guess that needs no start. What the command names counts before ``model_path``; what is named and not there, or
is fetched by the program itself, counts for nothing, and a recipe whose weights are not found has none.
"""

import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

from gpu_worker.drivers.port import Recipe, Weights

MODEL_OPTIONS = frozenset({"-m", "--model", "--model-path"})
MORE_OPTIONS = frozenset({
    "-mm", "--mmproj", "-md", "--model-draft", "--lora", "--control-vector", "-mv", "--model-vocoder",
})  # fmt: skip
"""What is loaded beside the model."""
MODEL_VARIABLE, MORE_VARIABLES = "LLAMA_ARG_MODEL", ("LLAMA_ARG_MMPROJ", "LLAMA_ARG_MODEL_DRAFT")
FOLDER_ENTRIES = 1024
"""Of a folder so many files are looked at, and so many folders in it."""
START_S, FOLDER_START_S = 2.0, 20.0
"""What a start costs beside reading: process, device, warm-up. Servers that load safetensors are Python's; they import
for seconds and compile graphs (vLLM: up to 55 s beside a read of 3; docs/scheduling.md, "Physical limits")."""
_SHELLS = ("sh", "bash", "dash", "zsh")
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<parts>\d{5})\.gguf")


def weights_of(recipe: Recipe) -> Weights | None:
    """Look for the files of a recipe; None where none is found. May block as the file system does."""
    words = list(_words(recipe))
    model = next((found for named in _candidates(recipe, words) if (found := _sizes(named))), None)
    if model is None:
        return None
    variables = dict(recipe.env)
    more = [Path(value) for option, value in pairwise(words) if option in MORE_OPTIONS]
    more += [Path(variables[name]) for name in MORE_VARIABLES if name in variables]
    sizes = model | _sizes(more)
    (device, _), (largest, _) = max(sizes.items(), key=lambda one: one[1][1])
    return Weights(
        size_bytes=sum(size for _, size in sizes.values()),
        largest=largest,
        device=device,
        start_s=START_S if all(path.suffix != ".safetensors" for path, _ in model.values()) else FOLDER_START_S,
    )


def _candidates(recipe: Recipe, words: list[str]) -> Iterator[list[Path]]:
    """Where the model itself may be, the likeliest first."""
    yield [Path(value) for option, value in pairwise(words) if option in MODEL_OPTIONS]
    yield [Path(value) for name, value in recipe.env if name == MODEL_VARIABLE]
    yield [recipe.model_path] if recipe.model_path is not None else []
    yield [Path(word) for before, word in pairwise(words) if _looks_like_weights(before, word)]


def _looks_like_weights(before: str, word: str) -> bool:
    """A file of weights behind any option, or a folder behind none: others are for logs and caches."""
    if "/" not in word or before in MORE_OPTIONS:
        return False
    try:
        return word.endswith((".gguf", ".safetensors")) or (not before.startswith("-") and Path(word).is_dir())
    except OSError:  # too long for a path
        return False


def _words(recipe: Recipe) -> Iterator[str]:
    """The command's, options and values apart; those of a shell's script too."""
    before = ""
    for word in recipe.command:
        filled = word.replace("{model_path}", str(recipe.model_path))
        if before == "-c" and Path(recipe.command[0]).name in _SHELLS:
            yield from _script_words(filled)
        elif filled.startswith("-") and "=" in filled:
            yield from filled.split("=", 1)
        else:
            yield filled
        before = word


def _script_words(script: str) -> Iterator[str]:
    try:
        words = shlex.split(script, comments=True)
    except ValueError:  # a quotation that does not end
        return
    for word in words:
        yield from word.split("=", 1) if word.startswith("-") else (word,)


def _sizes(paths: Iterable[Path]) -> dict[tuple[int, int], tuple[Path, int]]:
    """The files there, each once whatever leads to it: device and number to path and bytes."""
    found = {}
    for path in paths:
        try:
            for file in _files(path):
                seen = file.stat()
                if stat.S_ISREG(seen.st_mode):
                    found[seen.st_dev, seen.st_ino] = (file, seen.st_size)
        except (OSError, ValueError):  # not there, not to be read, or no path at all
            continue
    return {key: (file, size) for key, (file, size) in found.items() if size > 0}


def _files(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return _weights_in(path) or [
            file for folder in _entries(path) if folder.is_dir() for file in _weights_in(folder)
        ]
    part = _PART.fullmatch(path.name)
    if part is None:
        return [path]
    return [one for one in _entries(path.parent) if _is_part(one.name, part)]


def _is_part(name: str, of: re.Match[str]) -> bool:
    part = _PART.fullmatch(name)
    return part is not None and (part["stem"], part["parts"]) == (of["stem"], of["parts"])


def _weights_in(folder: Path) -> list[Path]:
    """Of a model as Hugging Face lays it out; the same weights may be there in more than one form."""
    entries = _entries(folder)
    tensors = [entry for entry in entries if entry.suffix == ".safetensors"]
    sharded = [entry for entry in tensors if not entry.name.startswith("consolidated")]
    return sharded or tensors or [entry for entry in entries if entry.suffix in {".bin", ".pth", ".pt"}]


def _entries(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in islice(entries, FOLDER_ENTRIES))

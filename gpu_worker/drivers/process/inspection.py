"""What is wrong with a command before it is run, and whether anything it is made of has changed.

Rule: only what is wrong for certain is called trouble: no such program, nothing to load where the command says what to
load. Everything else is for the program to say. A stamp covers more: every word of the command that is a path.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from gpu_worker.drivers.port import Recipe, RecipeInspection
from gpu_worker.drivers.process.weights import weights_of

FOLDER_ENTRIES = 64
"""Of a folder of weights so many files are looked at."""
_WEIGHTS = frozenset({
    "-m", "--model", "-mm", "--mmproj", "-md", "--model-draft", "--lora", "--control-vector", "-mv", "--model-vocoder",
})  # fmt: skip
"""Options that name a file to be read."""
_DOWNLOADS = (
    "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-mu", "--model-url", "-hfd", "-hfrd", "--hf-repo-draft",
    "-dr", "--docker-repo", "-mmu", "--mmproj-url",
)  # fmt: skip
"""With one of these the program fetches its files itself."""
_INTERPRETERS = ("python", "bash", "sh", "dash", "zsh", "node", "perl", "ruby")
_SCRIPTS = (".py", ".sh", ".js", ".mjs", ".pl", ".rb")


def inspect(recipe: Recipe, fingerprint: str, path: str | None) -> RecipeInspection:
    """Look at everything a recipe is made of.

    Args:
        recipe: The catalogue entry.
        fingerprint: Of the entry itself.
        path: Where programs are looked for.
    """
    command = tuple(word.replace("{model_path}", str(recipe.model_path)) for word in recipe.command)
    files = sorted({*_paths(recipe, command, path)})
    stamp = hashlib.sha256("\n".join([fingerprint, *map(_identity, files)]).encode()).hexdigest()[:16]
    return RecipeInspection(stamp=stamp, trouble=_trouble(recipe, command, path), weights=weights_of(recipe))


def program_of(command: tuple[str, ...], path: str | None) -> str | None:
    """The file that would be executed; None where there is none."""
    return shutil.which(command[0], path=path) if command else None


def no_program(command: tuple[str, ...]) -> str:
    """Say in words why the program of a command cannot be started."""
    name = command[0] if command else ""
    if "/" in name and Path(name).is_file():
        return f"cannot be executed: {name}"
    return f"program not found: {name or '(no command)'}"


def _trouble(recipe: Recipe, command: tuple[str, ...], path: str | None) -> str:
    program = program_of(command, path)
    if program is None:
        return no_program(command)
    for file in _to_be_read(recipe, command, program):
        if not file.exists():
            return f"no such file: {file}"
        if not os.access(file, os.R_OK):
            return f"cannot be read: {file}"
    return ""


def _to_be_read(recipe: Recipe, command: tuple[str, ...], program: str) -> Iterator[Path]:
    script = next((word for word in command[1:] if not word.startswith("-")), "")
    if Path(program).name.startswith(_INTERPRETERS) and script.endswith(_SCRIPTS) and "-c" not in command:
        yield Path(script)
    if any(word.partition("=")[0] in _DOWNLOADS for word in command):
        return
    if recipe.model_path is not None and any("{model_path}" in word for word in recipe.command):
        yield recipe.model_path
    for option, value in _options(command):
        if option in _WEIGHTS and "{" not in value and (value.endswith(".gguf") or value.startswith("/")):
            yield Path(value)


def _options(command: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for word, following in pairwise((*command, "")):
        option, equals, value = word.partition("=")
        yield option, value if equals else following


def _paths(recipe: Recipe, command: tuple[str, ...], path: str | None) -> Iterator[Path]:
    yield Path(program_of(command, path) or "".join(command[:1]))
    if recipe.model_path is not None:
        yield recipe.model_path
    for word in command[1:]:
        for part in {word, word.partition("=")[2]}:
            if "/" in part or part.endswith((*_SCRIPTS, ".gguf")):
                yield Path(part)


def _identity(file: Path) -> str:
    try:
        seen = file.stat()
        told = f"{file} {seen.st_dev} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_mode}"
        if file.is_dir():
            told += "".join(f" {_seen(entry)}" for entry in sorted(file.iterdir())[:FOLDER_ENTRIES])
    except (OSError, ValueError):  # no path at all, for an argument with a zero byte or too long
        return f"{file} absent"
    return told


def _seen(entry: Path) -> str:
    seen = entry.stat()
    return f"{entry.name} {seen.st_size} {seen.st_mtime_ns}"

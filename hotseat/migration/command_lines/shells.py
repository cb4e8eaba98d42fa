"""Commands that are given to a shell: unwrapped where the shell has nothing to do, kept where it has.

Rule: a script that stays is not rewritten but for its port and a key of its own. What it starts is looked at, and gets
name and key by variables.
"""

import re
import shlex

from hotseat.migration.command_lines.command import (
    LLAMA_ENV,
    PORT,
    VLLM_ENV,
    About,
    Command,
    command_words_of,
    with_place,
)
from hotseat.migration.command_lines.programs import (
    SHELLS,
    CommandError,
    is_llama_server,
    name_of,
    refuse_elsewhere,
    refuse_other_kinds,
    vllm_at,
)
from hotseat.migration.command_lines.servers import IS_ROUTER, ROUTER

_SIGNS = re.compile(r"[$`;&|<>()*?\[\]~!#\n]")
_BEFORE_A_PROGRAM = frozenset({";", "&&", "||", "|", "&", "(", "{", "then", "do", "else", "exec", "\n"})


def script_of(words: list[str]) -> str | None:
    """The text that a shell is given; None: there is no shell, or it runs a file.

    Raises:
        CommandError: It is told to expect a text, and there is none.
    """
    if name_of(words[0]) not in SHELLS:
        return None
    for index, word in enumerate(words[1:], start=1):
        if re.fullmatch(r"-[a-z]*c[a-z]*", word):
            if index + 1 >= len(words):
                raise CommandError(f"{word} has no value")
            return words[index + 1]
        if not word.startswith("-"):
            return None
    return None


def plain_words(script: str) -> list[str] | None:
    """The words of a script that is one program and its arguments; None: it needs its shell."""
    outside = re.sub(r"'[^']*'", "", script.replace(PORT, ""))
    if _SIGNS.search(re.sub(r"\\.", "", outside)):
        return None
    return command_words_of(script)


def command_in_a_shell(words: list[str], script: str, about: About) -> Command:
    """The script stays.

    Raises:
        CommandError: It cannot be ours.
    """
    if re.search(r"(?<!&)&\s*$", script):
        raise CommandError("goes into the background, where the worker could not watch it")
    parts, port = _parts(script), about.port
    is_known = any(is_llama_server(part) for part in parts) or vllm_at(parts) is not None
    for start in range(len(parts)):
        if start == 0 or parts[start - 1] in _BEFORE_A_PROGRAM:
            refuse_elsewhere(parts[start:])
            if not is_known:
                refuse_other_kinds(parts[start:])
    if any(part in ROUTER for part in parts):
        raise CommandError(IS_ROUTER)
    changed = script if PORT in script or port is None else with_place(script, port)
    changed, keys = re.subn(r"(?<!\S)--api-key(-file)?[ =]\S+", "", changed)
    found = Command(env={**LLAMA_ENV, **VLLM_ENV}, has_key=keys > 0, bare=parts, downloads=True)
    found.words = tuple(changed if word == script else word for word in words)
    found.note_options(parts)
    found.need_port(about)
    found.is_wide = vllm_at(parts) is not None
    if not is_known:
        found.settle_kind(about, parts)
        found.note_unknown("its script")
    elif "--host" in parts:
        found.notes.append("it listens where --host in its script says; the key is asked for all the same")
    return found


def _parts(script: str) -> list[str]:
    lexer = shlex.shlex(script, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError as error:
        raise CommandError(f"cannot be split into words: {str(error).lower()}") from None

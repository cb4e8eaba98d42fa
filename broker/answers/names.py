"""Does the name in an answer mean the model that was asked for?"""

import re

_SNAPSHOT = re.compile(r"^-(\d{8}|\d{4}-\d{2}-\d{2}|\d{6}|\d{4}|latest|preview)(-.*)?$")
"""What providers append: ``gpt-4o`` answers as ``gpt-4o-2024-08-06``, ``claude-sonnet-4`` with a date of 8 digits."""


def same_model(answered: str, expected: str) -> bool:
    """Servers add directories, file endings, revisions and dates to a name; anything else is another model.

    A name that differs in size or quantisation (``qwen3-8b``, ``qwen3-32b``) is another model.
    """
    if answered == expected:
        return True
    one, other = _bare(answered), _bare(expected)
    return one == other or (one.startswith(other) and _SNAPSHOT.match(one[len(other) :]) is not None)


def _bare(name: str) -> str:
    """The name without directory or vendor, file ending, revision and the words for the newest one."""
    bare = name.strip().casefold().replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return bare.split("@", 1)[0].removesuffix(":latest").removesuffix("-latest").removesuffix(".gguf")

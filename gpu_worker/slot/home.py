"""Where a slot's state is kept, by a name: it tells a restart of one worker from the worker of another host.

A random word in the slot's folder, and the boot of the host: a copied folder (an image of a host) is another home.
"""

import os
import secrets
from pathlib import Path

from gpu_worker.host.durable import write_durably
from gpu_worker.host.procfs import boot_id

_NAME = "home"
_WORD_BYTES = 8


def home_of(folder: Path) -> str:
    """The name of the slot's folder on this host; a new one each time where it cannot be kept."""
    return f"{_word_of(folder)}-{boot_id()[:8]}"


def _word_of(folder: Path) -> str:
    try:
        kept = (folder / _NAME).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        kept = ""
    if len(kept) == 2 * _WORD_BYTES and kept.isalnum():
        return kept
    word = secrets.token_hex(_WORD_BYTES)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            write_durably(descriptor, _NAME, f"{word}\n".encode())
        finally:
            os.close(descriptor)
    except OSError:
        return word
    return word

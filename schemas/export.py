"""Writes the generated schemas: what other languages build their types from; CI fails when they are out of step."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from schemas.messages import Orders, Report

DIRECTORY = Path(__file__).parent / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Documents = Mapping[str, dict[str, Any]]


def messages() -> dict[str, dict[str, Any]]:
    """JSON Schema of what travels between broker and worker, by file name."""
    return {
        f"{kind.__name__.lower()}.json": {"$schema": DIALECT, **msgspec.json.schema(kind)} for kind in (Orders, Report)
    }


def write(documents: Documents, directory: Path) -> None:
    """Write every document."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (directory / name).write_text(_text(document), encoding="utf-8")


def stale(documents: Documents, directory: Path) -> list[str]:
    """Names of files that are missing or differ."""
    return [name for name, document in documents.items() if _read(directory / name) != _text(document)]


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None

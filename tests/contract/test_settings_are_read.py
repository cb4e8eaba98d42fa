"""Every setting of `hotseat.toml` is read by somebody: one that nothing reads is a promise to its operator."""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import schemas.config

ROOT = Path(schemas.config.__file__).parents[2]
READERS = ("broker", "gpu_worker", "hooks/openclaw/poller", "hotseat", "schemas")


def settings() -> Iterator[str]:
    """Names of the fields of all tables of the configuration."""
    for module in pkgutil.iter_modules(schemas.config.__path__):
        for value in vars(importlib.import_module(f"schemas.config.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, BaseModel):
                yield from value.model_fields


def unread(names: Iterable[str], sources: str) -> set[str]:
    """Names that stand nowhere behind a dot."""
    return set(names) - set(re.findall(r"\.([a-z_0-9]+)\b", sources))


@pytest.fixture(scope="module")
def sources() -> str:
    return "\n".join(file.read_text("utf-8") for folder in READERS for file in (ROOT / folder).rglob("*.py"))


def test_every_setting_is_read(sources):
    names = set(settings())
    assert len(names) > 70
    assert unread(names, sources) == set()


def test_a_setting_that_nothing_reads_is_found(sources):
    assert unread(["expected_hold_s", "expected_hold_of_nobody_s"], sources) == {"expected_hold_of_nobody_s"}

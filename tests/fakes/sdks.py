"""SDKs of others, imported before the first test of a module that uses them and not when it is collected.

Together they take seconds, in every process that collects. Tests that use one which is not installed are skipped.
"""

from types import ModuleType
from typing import Any

import pytest


class LazySdk:
    """Stands for a module until something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._module: ModuleType | None = None

    def load(self) -> ModuleType:
        """Import it, unless that is done: in a test's setup, where no scene waits for the event loop meanwhile."""
        if self._module is None:
            self._module = pytest.importorskip(self._name)
        return self._module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest and its plugins look for marks of theirs in whatever a test module holds
            raise AttributeError(name)
        return getattr(self.load(), name)


anthropic = LazySdk("anthropic")
mcp = LazySdk("mcp")
openai = LazySdk("openai")

"""Importing, as a command does it."""

import tomllib

import pytest

from hotseat.commands.import_ import main


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("WORKSHOP_KEY", "of-the-environment")
    monkeypatch.setenv("HOUSEHOLD_KEY", "sk-household")


@pytest.fixture
def imported(capsys, tmp_path):
    """Import a file or a text; returns status, the file read, the file's text and standard error."""

    def run(source, *options):
        path = source
        if isinstance(source, str):
            path = tmp_path / "source.yaml"
            path.write_text(source, encoding="utf-8", errors="surrogateescape")
        status = main([str(path), *options])
        shown = capsys.readouterr()
        return status, tomllib.loads(shown.out), shown.out, shown.err

    return run

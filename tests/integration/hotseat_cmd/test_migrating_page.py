"""``docs/migrating.md`` is true: its commands are typed in order, and say and write what the page shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "migrating.md"
BLOCK = re.compile(r"```(yaml|toml|console)\n(.*?)```", re.DOTALL)


def typed(line: str, folder: Path) -> str:
    """What a command prints: standard output, then standard error."""
    program, *words = shlex.split(line)
    assert program == "hotseat"
    done = subprocess.run(
        [sys.executable, "-m", "hotseat", *words], cwd=folder, capture_output=True, text=True, check=True, env={}
    )
    return done.stdout + done.stderr


def test_the_page_is_true(tmp_path):
    blocks = BLOCK.findall(PAGE.read_text())
    assert [kind for kind, _ in blocks] == [
        *("yaml", "console", "toml") * 2,
        "console",
        "console",
    ]
    for kind, text in blocks:
        first, _, rest = text.partition("\n")
        if kind == "yaml":
            (tmp_path / first.removeprefix("# ")).write_text(rest)
        elif kind == "toml":
            assert (tmp_path / first.removeprefix("# ")).read_text() == rest
        else:
            assert typed(first.removeprefix("$ "), tmp_path) == rest

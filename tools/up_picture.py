"""Makes the README's picture, ``docs/up.svg``, out of what a real ``hotseat up`` prints in its first half minute."""

import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parent.parent / "docs" / "up.svg"
SECONDS, WIDTH, LINES = 40, 118, 42
COLOURS = {"ada": "bright_cyan", "ben": "bright_magenta", "cleo": "bright_yellow"}


def recorded() -> list[str]:
    """Lines of a fresh run, paths of this machine shortened."""
    with tempfile.TemporaryDirectory() as state:
        argv = [sys.executable, "-m", "hotseat", "up", "--state-dir", state]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
            try:
                running.wait(SECONDS)
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGINT)
            assert running.stdout is not None
            text = running.stdout.read()
    text = text.replace(state, "~/.local/state/hotseat").replace(str(Path.home()), "~")
    text = re.sub(r"another terminal: .*hotseat ps", "another terminal: hotseat ps", text)
    return text.splitlines()


def line_of(line: str) -> Text:
    """One line in colours: each agent has one, what they wait for is dim, a grant is bold."""
    text = Text(line[: WIDTH - 1] + ("…" if len(line) >= WIDTH else ""))
    text.highlight_words(["✓"], "green")
    for name, colour in COLOURS.items():
        if re.match(rf"\s+[\d.]+ s\s+{name}\b", line):
            text.stylize(("bold " if " has " in line else "dim " if " waits " in line else "") + colour)
    return text


def main() -> None:
    """Run and draw."""
    console = Console(record=True, width=WIDTH, file=Path("/dev/null").open("w", encoding="utf-8"))  # noqa: SIM115
    console.print(Text("$ make up", style="bold"))
    for line in recorded()[:LINES]:
        console.print(line_of(line))
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="hotseat up"), flags=re.DOTALL)
    TARGET.write_text(drawn.replace("Fira Code", "ui-monospace"), encoding="utf-8")  # no font from elsewhere


if __name__ == "__main__":
    main()

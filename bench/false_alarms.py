"""How many ordinary requests of programmers the firewall keeps at home, by rule and by what it found.

`make bench BENCH=false_alarms` makes requests out of what lies on every developer's machine: files of Python's standard
library and of installed packages, their descriptions, this repository's sources, pages and commits. Each is put into a
conversation as a coding agent has it (a system prompt, tools, a file as a tool's result) or as a person asks. None of
it was written with secrets in it, so whatever is called private is taken for a false alarm; that some of it is not (a
page on passwords, a test with a path of a home) makes the shares upper bounds.
"""

import argparse
import json
import random
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broker.process.secret_scanner import open_scanner
from broker.routing.privacy.firewall import Firewall, PrivacyCause
from broker.routing.privacy.indicators import Indicators
from broker.routing.request.contents import UnreadContent
from broker.routing.request.request import Described, RequestKind

ROOT = Path(__file__).parents[1]
CHUNK = 6000
"""Characters of one file that an agent reads at once, or a person pastes."""
LONGEST = 200_000
TOLD = 4
"""Reasons that are shown of each corpus."""
TOOLS = [
    {"type": "function", "function": {"name": name, "description": what, "parameters": {"type": "object"}}}
    for name, what in (
        ("read_file", "Read a file of the project."),
        ("edit_file", "Replace a passage of a file."),
        ("run", "Run a command and return what it printed."),
        ("search", "Search the project for a pattern."),
    )
]


@dataclass(frozen=True)
class Corpus:
    """Texts of one kind."""

    name: str
    texts: tuple[str, ...]
    is_read_by_agent: bool

    def requests(self, count: int, rng: random.Random) -> Iterator[bytes]:
        """So many of them, each a conversation."""
        for text in rng.sample(self.texts, min(count, len(self.texts))):
            begin = rng.randrange(max(1, len(text) - CHUNK))
            yield body_of(text[begin : begin + CHUNK], numbered=self.is_read_by_agent)


def body_of(text: str, *, numbered: bool, place: str = "/workspace") -> bytes:
    """A conversation about a text, as an agent has it, or as a person asks."""
    if not numbered:
        asked = {"role": "user", "content": f"What does this say, and is it right?\n\n{text}"}
        return json.dumps({"model": "auto", "messages": [asked]}).encode()
    lines = "\n".join(f"{number:6}\t{line}" for number, line in enumerate(text.splitlines(), 1))
    call = {"id": "c1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "module.py"}'}}
    messages: list[dict[str, object]] = [
        {"role": "system", "content": f"You are a careful programmer. The project is in {place}/project."},
        {"role": "user", "content": "Find out why the test of this module fails, and mend it."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": lines},
    ]
    return json.dumps({"model": "auto", "messages": messages, "tools": TOOLS}).encode()


def _files(*folders: Path, pattern: str) -> tuple[str, ...]:
    paths = sorted(path for folder in folders for path in folder.glob(pattern) if path.stat().st_size < LONGEST)
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in paths)
    return tuple(text for text in texts if len(text) > CHUNK // 10)


def corpora() -> list[Corpus]:
    """What there is here."""
    paths = sysconfig.get_paths()
    library, packages = Path(paths["stdlib"]), Path(paths["purelib"])
    ours = [ROOT / name for name in ("broker", "gpu_worker", "hotseat", "schemas", "bench")]
    log = subprocess.run(
        ["git", "log", "-p", "--no-merges", "-400", "--format=%x00%B"],  # noqa: S607 - whatever git is the developer's
        cwd=ROOT, capture_output=True, check=False,
    ).stdout.decode("utf-8", "replace")  # fmt: skip
    return [
        Corpus("standard library, files", _files(library, pattern="*/*.py"), is_read_by_agent=True),
        Corpus("installed packages, files", _files(packages, pattern="*/*.py"), is_read_by_agent=True),
        Corpus("this repository, files", _files(*ours, pattern="**/*.py"), is_read_by_agent=True),
        Corpus("this repository, commits", tuple(one for one in log.split("\0") if one), is_read_by_agent=True),
        Corpus("installed packages, descriptions", _files(packages, pattern="*/METADATA"), is_read_by_agent=False),
        Corpus("this repository, pages", _files(ROOT / "docs", ROOT, pattern="*.md"), is_read_by_agent=False),
    ]


def cause_of(body: bytes, firewall: Firewall) -> PrivacyCause | None:
    """Why a request is private, if it is."""
    request = Described(
        name="auto", kind=RequestKind.CHAT, content=UnreadContent(RequestKind.CHAT, body), size_bytes=len(body)
    )
    return firewall.because(request, session_private=False, name_private=False)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How many ordinary requests are taken for private.")
    parser.add_argument("--requests", type=int, default=400, help="of each corpus at most (default: 400)")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    scanner = open_scanner()
    firewalls = [Firewall(find_secret=scanner, indicators=indicators) for indicators in Indicators]
    print(
        "| requests about | number | "
        + " | ".join(Indicators)
        + " | what `owner` found |\n|---|"
        + "---:|" * 4
        + "---|"
    )
    for corpus in corpora():
        bodies = list(corpus.requests(asked.requests, random.Random(asked.seed)))
        found = [Counter(cause_of(body, firewall) for body in bodies) for firewall in firewalls]
        shares = [f"{100 * (1 - causes[None] / len(bodies)):.1f} %" for causes in found]
        owner = Counter({cause: count for cause, count in found[0].items() if cause is not None})
        told = ", ".join(f"{cause} {100 * count / len(bodies):.1f}" for cause, count in owner.most_common(TOLD))
        print(f"| {corpus.name} | {len(bodies)} | {' | '.join(shares)} | {told} |")
    at_home = body_of("x = 1\n" * 10, numbered=True, place="/home/anna")
    print(f"\nAn agent whose system prompt says `/home/anna/project`: {cause_of(at_home, firewalls[0])}, every time.")


if __name__ == "__main__":
    main()

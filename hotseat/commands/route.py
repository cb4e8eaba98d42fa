"""`hotseat route FILE`: where recorded requests would go now, and why, and how many of them would stay."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotseat.clients.http_api import BrokerError, Client
from hotseat.commands.ps import text_table
from hotseat.commands.recorded_requests import NotRecordedError, Record, records_of
from hotseat.terminal.arguments import add_url
from schemas.command_line import CommandLine

_Answer = dict[str, Any]
ROUTES = ("local", "inside", "cloud", "refused")
FEW = 1
"""A file with one request is shown with all that is known of it; more of them are a table."""
RATE_LIMITED = 429
OURS = frozenset({401, 403, 404})
"""Statuses that the next request would meet as well, so looking on is in vain."""
EPILOG = """\
FILE holds requests as they were recorded: one JSON object a line, a list of them, or one. An object is a body as
a client sent it, or {"path": "/v1/chat/completions", "headers": {...}, "body": {...}, "key": "NAME"}; lines of
OpenAI's batches and archives of browsers (.har) are read too. "-" is standard input. Credentials are not sent.

Nothing is served: no lease, no place in line, no upstream asked, no conversation marked as private. A request without
a name for its conversation (x-hotseat-session) is taken for one of this machine's. Each is looked at by itself: what an
earlier one would have made private the next one does not know of.
"""


@dataclass(slots=True)
class Shares:
    """How many of all requests that were looked at go where."""

    routes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    models: Counter[tuple[str, str]] = field(default_factory=Counter)
    tasks: Counter[tuple[str, str]] = field(default_factory=Counter)
    private: int = 0
    reserve: float = 0.0

    def add(self, answer: _Answer) -> None:
        """Count one answer of ``POST /route``."""
        route = answer["route"]
        self.routes[route] += 1
        self.reasons[route, answer["reason"]] += 1
        self.tasks[answer["task"] or "-", route] += 1
        self.private += answer["private"] is not None
        if answer["serves"]:
            self.models[answer["serves"], route] += 1
            self.reserve += answer["choices"][0]["reserve"]

    def told(self) -> _Answer:
        """Return the counts as JSON for scripts."""
        total = self.routes.total()
        return {
            "requests": total,
            "routes": {route: self.routes[route] for route in ROUTES},
            "staysShare": (self.routes["local"] + self.routes["inside"]) / total if total else None,
            "private": self.private,
            "reserve": round(self.reserve, 6),
            "reasons": [{"route": r, "reason": why, "count": n} for (r, why), n in self.reasons.most_common()],
            "models": [{"model": m, "route": r, "count": n} for (m, r), n in self.models.most_common()],
            "tasks": [{"task": t, "route": r, "count": n} for (t, r), n in self.tasks.most_common()],
        }


def route(argv: list[str]) -> int:
    """Run `hotseat route FILE`: where requests would go, and why."""
    arguments = _parser().parse_args(argv)
    try:
        text = sys.stdin.read() if arguments.file == "-" else Path(arguments.file).read_text(encoding="utf-8")
        records = list(records_of(text))
    except (OSError, UnicodeDecodeError, NotRecordedError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        print(f"hotseat: {arguments.file}: {reason}", file=sys.stderr)
        return 1
    client = Client.from_environment(url=arguments.url)
    try:
        seen, wrong = look(client, records, arguments)
    except BrokerError as error:
        print(f"hotseat: {error}", file=sys.stderr)
        return 1 if error.status else 3
    shares = Shares()
    for _, answer in seen:
        shares.add(answer)
    if arguments.json:
        listed = [] if arguments.summary else [{"at": place, **answer} for place, answer in seen]
        errors = [{"at": place, "error": trouble} for place, trouble in wrong]
        print(json.dumps({"requests": listed, "errors": errors, "summary": shares.told()}, indent=2))
    else:
        print("\n".join(lines_of(seen, shares, arguments)))
        for place, trouble in wrong:
            print(f"hotseat: {arguments.file}: {place}: {trouble}", file=sys.stderr)
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine(
        prog="hotseat route",
        description="Where recorded requests to /v1 would go now, and why, without serving them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="requests as JSON or JSON lines; - for standard input")
    parser.add_argument("--key", metavar="NAME", help="as if this API key sent them (needs the scope observe)")
    parser.add_argument("--model", metavar="NAME", help="as if they asked for this name: to try an alias")
    parser.add_argument("--session", metavar="NAME", help="the conversation of those that name none")
    parser.add_argument("--path", metavar="PATH", help="the address of those that name none, such as /v1/embeddings")
    parser.add_argument("--summary", action="store_true", help="only the shares, no line for each request")
    parser.add_argument("--json", action="store_true", help="for scripts")
    add_url(parser)
    return parser


def look(
    client: Client, records: Iterable[Record], arguments: argparse.Namespace
) -> tuple[list[tuple[str, _Answer]], list[tuple[str, str]]]:
    """Ask for every request.

    Returns:
        Answers, and what could not be asked for, each with its place.

    Raises:
        BrokerError: The broker cannot be reached, or does not let us in.
    """
    seen: list[tuple[str, _Answer]] = []
    wrong: list[tuple[str, str]] = []
    for record in records:
        if record.trouble:
            wrong.append((record.place, record.trouble))
            continue
        try:
            seen.append((record.place, _ask(client, completed(record.request, arguments))))
        except BrokerError as error:
            if not error.status or error.status in OURS:
                raise
            wrong.append((record.place, str(error)))
    return seen, wrong


def _ask(client: Client, request: _Answer) -> _Answer:
    """Ask for one request; again as often as the broker says that we are too fast."""
    while True:
        try:
            return client.post("/route", request)
        except BrokerError as error:
            if error.status != RATE_LIMITED:
                raise
            time.sleep(max(0.1, error.retry_after_s))


def completed(request: _Answer, arguments: argparse.Namespace) -> _Answer:
    """Return a request with what the command line adds to it."""
    found = dict(request)
    if arguments.path is not None:
        found.setdefault("path", arguments.path)
    if arguments.key is not None:
        found["key"] = arguments.key
    if arguments.session is not None:
        headers = {name.lower(): value for name, value in found.get("headers", {}).items()}
        found["headers"] = {"x-hotseat-session": arguments.session, **headers}
    if arguments.model is not None and isinstance(found["body"], dict):
        found["body"] = {**found["body"], "model": arguments.model}
    return found


def lines_of(seen: list[tuple[str, _Answer]], shares: Shares, arguments: argparse.Namespace) -> list[str]:
    """Write the answers as lines for people."""
    if len(seen) == FEW and not arguments.summary:
        return _closely(seen[0][1])
    lines: list[str] = []
    if seen and not arguments.summary:
        heads = ("AT", "MODEL", "TASK", "EFFORT", "ROUTE", "SERVED BY", "REASON", "PRIVATE")
        lines = [*text_table([heads, *(_row(place, answer) for place, answer in seen)]), ""]
    return [*lines, *_summary(shares)]


def _row(place: str, answer: _Answer) -> tuple[str, ...]:
    return (
        place.removeprefix("line ").removeprefix("request "),
        answer["model"] or "-",
        answer["task"] or "-",
        answer["effort"] or "-",
        answer["route"],
        answer["serves"] or "-",
        answer["reason"],
        answer["private"] or "",
    )


def _summary(shares: Shares) -> list[str]:
    total = shares.routes.total()
    if not total:
        return ["no requests"]
    parts = [
        f"{name} {_share(shares.routes[name], total)}" for name in ROUTES if shares.routes[name] or name != "inside"
    ]
    lines = [f"{total:,} requests: {', '.join(parts)}; private {_share(shares.private, total)}"]
    if shares.reserve:
        lines.append(f"at upstreams {shares.reserve:.4f} would be put aside, in the currency of the prices")
    lines += ["", *text_table([("ROUTE", "REASON", "REQUESTS"), *_counted(shares.reasons, total)])]
    if shares.models:
        lines += ["", *text_table([("SERVED BY", "ROUTE", "REQUESTS"), *_counted(shares.models, total)])]
    return [*lines, "", *text_table([("TASK", "ROUTE", "REQUESTS"), *_counted(shares.tasks, total)])]


def _counted(counts: Counter[tuple[str, str]], total: int) -> list[tuple[str, ...]]:
    return [(first, second, _share(number, total)) for (first, second), number in counts.most_common()]


def _share(number: int, total: int) -> str:
    return f"{number:,} ({100 * number / total:.1f} %)"


def _closely(answer: _Answer) -> list[str]:
    """Describe one request, with everything that was looked at."""
    shown = [
        ("asked for", f"{answer['model'] or '-'} at {answer['path']}"),
        ("session", answer["session"] or "-"),
        ("task", f"{answer['task'] or '-'} (says the {answer['taskFrom']})"),
        ("effort", answer["effort"] or "not said"),
        ("demands", _demands(answer)),
        ("rule", "none holds" if answer["rule"] is None else f"the {answer['rule']}. of {answer['model']}"),
        ("private", answer["private"] or "no"),
        ("route", f"{answer['route']}: {answer['reason']}"),
    ]
    if answer["message"]:
        shown.append(("told", f"{answer['status']} {answer['message']}"))
    lines = [*text_table([(f"{name}:", text) for name, text in shown])]
    if answer["choices"]:
        heads = ("CANDIDATE", "ROUTE", "WAIT", "FIRST TOKEN", "TOKENS/S", "WHOLE", "PUT ASIDE", "")
        lines += ["", *text_table([heads, *(_choice(one) for one in answer["choices"])])]
    if answer["passedOver"]:
        rows = [(one["model"], one["why"]) for one in answer["passedOver"]]
        lines += ["", *text_table([("PASSED OVER", "WHY"), *rows])]
    return lines


def _demands(answer: _Answer) -> str:
    said = [f"{answer['promptTokens']:,} tokens at most", f"{answer['tools']} tools"]
    if answer["toolCalls"]:
        said.append(f"{answer['toolCalls']} calls of tools so far")
    if answer["schemaDepth"]:
        said.append(f"a schema {answer['schemaDepth']} deep")
    return ", ".join(said)


def _choice(one: _Answer) -> tuple[str, ...]:
    remarks = [word for word in ("late", "busy") if one[word]]
    rate = one["tokensPerSecond"]
    return (
        one["model"],
        one["route"],
        _span(one["waitSeconds"]),
        _span(one["firstTokenSeconds"]),
        "?" if rate is None else f"{rate:.0f}",
        _span(one["takesSeconds"]),
        f"{one['reserve']:.4f}" if one["reserve"] else "-",
        ", ".join(remarks),
    )


def _span(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.1f} s"

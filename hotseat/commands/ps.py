"""`hotseat ps` and `why`: what the pool is doing, from the broker's own pictures."""

import json
import sys
from typing import Any
from urllib.parse import unquote

from hotseat.clients.http_api import BrokerError, Client, segment
from hotseat.terminal.arguments import add_url
from schemas.command_line import CommandLine
from schemas.residency import Residency

_Picture = dict[str, Any]
WORTH_TELLING_PERCENT = 10
"""A desktop always uses a GPU a little."""

LATELY_S = 3600.0
"""How a model went is told for an hour."""
CAME = {
    "warm": "for a warm lease",
    "prefetch": "fetched in advance",
    "restore": "there while nobody is active",
    "pinned": "pinned",
}
"""What a model was loaded for, where nobody had asked for it."""
WENT = {
    "waiters": "for {model}, which was asked for",
    "age_bound": "for {model}, which had been waited for too long",
    "warm": "for {model}, which a warm lease asked for",
    "prefetch": "for {model}, fetched in advance",
    "restore": "for {model}, which is to be there while nobody is active",
    "pinned": "for {model}, which is pinned",
    "release_vram": "to give its memory back (release_vram_after_s)",
    "drain": "its slot was drained",
    "off": "it was taken out of service",
    "deserted": "whoever it was loaded for had left",
    "server_died": "its server died",
    "not_confirmed": "its worker came back without it",
}
"""What a model made room for, or what else became of it."""


def ps(argv: list[str]) -> int:
    """`hotseat ps`: slots, what is on them, who holds it, who waits."""
    parser = CommandLine(prog="hotseat ps", description="Who holds what, who waits for what.")
    parser.add_argument("--json", action="store_true", help="the broker's own pictures, for scripts")
    add_url(parser)
    arguments = parser.parse_args(argv)
    client = Client.from_environment(url=arguments.url)
    try:
        models = client.get("/models").get("models", [])
        picture = {"status": client.get("/status"), "models": models, **client.get("/queue")}
    except BrokerError as error:
        return _complain(error)
    if arguments.json:
        print(json.dumps(picture, indent=2))
    else:
        lines = _slot_lines(picture) + _off_lines(picture) + _absent_lines(picture) + _lease_lines(picture)
        print("\n".join(lines))
        for warning in picture["status"].get("warnings", []):
            print(f"warning: {warning}", file=sys.stderr)
    return 0


def why(argv: list[str]) -> int:
    """`hotseat why LEASE`: who is ahead, what the slots do, how long it can take at worst."""
    parser = CommandLine(prog="hotseat why", description="Why does this lease wait, and how long at most?")
    parser.add_argument("lease", help="lease id")
    parser.add_argument("--json", action="store_true")
    add_url(parser)
    arguments = parser.parse_args(argv)
    try:
        answer = Client.from_environment(url=arguments.url).get(f"/lease/{segment(arguments.lease)}/why")
    except BrokerError as error:
        return _complain(error)
    print(json.dumps(answer, indent=2) if arguments.json else "\n".join(answer["lines"]))
    return 0


def _slot_lines(picture: _Picture) -> list[str]:
    status = picture["status"]
    rows: list[tuple[str, ...]] = [("SLOT", "STATE", "MODEL", "", "HELD", "MEMORY", "WORKER")]
    for slot in status["slots"]:
        used = sum(r["memoryMib"] for r in slot["residencies"])
        memory = f"{used}/{slot['budgetMib']} MiB"
        head = (slot["slot"], slot["state"])
        if not slot["residencies"]:
            rows.append((*head, "-", "", "", memory, slot["worker"]))
        for residency in slot["residencies"]:
            loading = residency["state"] == Residency.LOADING and residency["progress"]
            state = f"loading {residency['progress']}%" if loading else residency["state"]
            if reason := CAME.get(residency.get("why", "")):
                state = f"{state}, {reason}"
            rows.append((*head, residency["model"], state, str(residency["holders"]), memory, slot["worker"]))
            head, memory = ("", ""), ""
        loaded = {residency["model"] for residency in slot["residencies"]}
        rows += [("", "", f["model"], _failure(f, f["model"] in loaded), "", "", "") for f in slot["failures"]]
        if slot.get("makingRoomFor"):
            rows.append(("", "", f"→ {slot['makingRoomFor']} is next", "", "", "", ""))
        rows += [("", "", f"foreign: {process}", "", "", "", "") for process in slot["foreign"]]
        others = slot.get("foreignUtilisationPercent") or 0
        if others >= WORTH_TELLING_PERCENT:
            rows.append(("", "", f"others use the GPU: {others} %", "", "", "", ""))
    if not status["slots"]:
        rows.append(("-", "no worker has reported yet", "", "", "", "", ""))
    return text_table(rows)


def _off_lines(picture: _Picture) -> list[str]:
    off = [model for model in picture["models"] if model.get("off")]
    return ["", *(f"{model['name']} is out of service: {model['off']}" for model in off)] if off else []


def _absent_lines(picture: _Picture) -> list[str]:
    """Models that are not there: how they went, if lately, and which of them should be."""
    lines = []
    for model in picture["models"]:
        if model["state"] != "absent":
            continue
        words = [_went(left)] if (left := model.get("left")) and left["secondsAgo"] < LATELY_S else []
        if model.get("pinned"):
            words.append("it is pinned, but no slot has loaded it")
        if words:
            lines.append(f"{model['name']}: {'; '.join(words)}")
    return ["", *lines] if lines else []


def _went(left: _Picture) -> str:
    other, (who, _, name) = left.get("madeRoomFor"), left["why"].partition(":")
    if who == "operator" and name:
        reason = f"for {other}, which {name} loaded by hand" if other else f"{name} unloaded it by hand"
    else:
        reason = WENT.get(left["why"], left["why"].replace("_", " ")).format(model=other or "another model")
    return f"went from {left['slot']} {_ago(left['secondsAgo'])} ago, {reason}"


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _failure(failure: _Picture, loaded: bool) -> str:  # noqa: FBT001 - what is on the slot, not a mode
    """What is on record, in a line; what would mend it where nothing else does."""
    wait_s, error = failure.get("retryInSeconds"), failure["error"]
    if failure["kind"] == "died":
        return str(error)
    if failure["kind"] == "unsound":
        return f"cannot be started: {error}"
    if loaded:
        return f"failed before this load: {error}"
    then = f"again in {wait_s:.0f} s" if wait_s else "tried again when wanted"
    if failure["kind"] == "permanent":
        return f"cannot be loaded, {then} or when it changes: {error}"
    given_up = "given up, " if failure["quarantined"] else ""
    return f"failed {failure['fails']} times, {given_up}{then}: {error}"


def _lease_lines(picture: _Picture) -> list[str]:
    rows: list[tuple[str, ...]] = [("LEASE", "STATE", "MODEL", "CLASS", "PLACE", "TIME", "ETA", "SESSION", "LABEL")]
    for lease in picture["leases"]:
        queued = lease["state"] == "queued"
        seconds = lease["waitedSeconds"] if queued else lease["heldSeconds"]
        rows.append(
            (
                lease["leaseId"],
                lease["state"] if lease["intent"] == "use" or queued else f"{lease['state']} (warm)",
                lease["model"],
                lease["priority"],
                str(lease.get("position") or "") if queued else "",
                f"{'waits' if queued else 'held'} {seconds:.0f} s",
                _eta(lease) if queued else "",
                lease["sessionKey"],
                unquote(lease.get("label", "")),
            )
        )
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    return ["", *text_table(rows)] if len(rows) > 1 else ["", "nobody holds or waits"]


def _eta(lease: _Picture) -> str:
    reason = (lease.get("waitReason") or "").replace("_", " ")
    if lease.get("etaSeconds") is None:
        return f"unknown: {reason}" if reason else "unknown"
    span = f"{lease['etaSeconds']:.0f} s"
    if lease.get("etaLowSeconds") is not None and lease.get("etaHighSeconds") is not None:
        span += f" ({lease['etaLowSeconds']:.0f} to {lease['etaHighSeconds']:.0f})"
    return f"{span}, {reason}" if reason else span


def text_table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as they must be; a cell that nothing follows, such as a long remark, widens none."""
    widths = [
        max((len(row[column]) for row in rows if any(row[column + 1 :])), default=0) for column in range(len(rows[0]))
    ]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _complain(error: BrokerError) -> int:
    print(f"hotseat: {error}", file=sys.stderr)
    return 1 if error.status else 3

"""`hotseat ps` and `why`: what the pool is doing, from the broker's own pictures."""

import json
import sys
from typing import Any

from hotseat.arguments import CommandLine, add_url
from hotseat.client import BrokerError, Client, segment

Picture = dict[str, Any]


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
        print("\n".join(_slot_lines(picture) + _lease_lines(picture)))
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


def _slot_lines(picture: Picture) -> list[str]:
    status = picture["status"]
    rows: list[tuple[str, ...]] = [("SLOT", "STATE", "MODEL", "", "HELD", "MEMORY", "WORKER")]
    for slot in status["slots"]:
        used = sum(r["memoryMib"] for r in slot["residencies"])
        memory = f"{used}/{slot['budgetMib']} MiB"
        head = (slot["slot"], slot["state"])
        if not slot["residencies"]:
            rows.append((*head, "-", "", "", memory, slot["worker"]))
        for residency in slot["residencies"]:
            loading = residency["state"] == "loading" and residency["progress"]
            state = f"loading {residency['progress']}%" if loading else residency["state"]
            rows.append((*head, residency["model"], state, str(residency["holders"]), memory, slot["worker"]))
            head, memory = ("", ""), ""
        loaded = {residency["model"] for residency in slot["residencies"]}
        rows += [("", "", f["model"], _failure(f, f["model"] in loaded), "", "", "") for f in slot["failures"]]
        if slot.get("makingRoomFor"):
            rows.append(("", "", f"→ {slot['makingRoomFor']} is next", "", "", "", ""))
        rows += [("", "", f"foreign: {process}", "", "", "", "") for process in slot["foreign"]]
    if not status["slots"]:
        rows.append(("-", "no worker has reported yet", "", "", "", "", ""))
    return table(rows)


def _failure(failure: Picture, loaded: bool) -> str:  # noqa: FBT001 - what is on the slot, not a mode
    if failure["quarantined"]:
        return f"quarantined after {failure['fails']} failed loads: {failure['error']}"
    if not failure["fails"]:
        return str(failure["error"])
    wait_s = failure.get("retryInSeconds") or 0
    then = "before this load" if loaded else f"again in {wait_s:.0f} s" if wait_s > 0 else "tried again when wanted"
    return f"loads failed: {failure['fails']}, {then}: {failure['error']}"


def _lease_lines(picture: Picture) -> list[str]:
    rows: list[tuple[str, ...]] = [("LEASE", "STATE", "MODEL", "CLASS", "PLACE", "TIME", "ETA", "SESSION")]
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
            )
        )
    return ["", *table(rows)] if len(rows) > 1 else ["", "nobody holds or waits"]


def _eta(lease: Picture) -> str:
    reason = (lease.get("waitReason") or "").replace("_", " ")
    if lease.get("etaSeconds") is None:
        return f"unknown: {reason}" if reason else "unknown"
    span = f"{lease['etaSeconds']:.0f} s"
    if lease.get("etaLowSeconds") is not None and lease.get("etaHighSeconds") is not None:
        span += f" ({lease['etaLowSeconds']:.0f} to {lease['etaHighSeconds']:.0f})"
    return f"{span}, {reason}" if reason else span


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as they must be; a cell that nothing follows, such as a long remark, widens none."""
    widths = [
        max((len(row[column]) for row in rows if any(row[column + 1 :])), default=0) for column in range(len(rows[0]))
    ]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _complain(error: BrokerError) -> int:
    print(f"hotseat: {error}", file=sys.stderr)
    return 1 if error.status else 3

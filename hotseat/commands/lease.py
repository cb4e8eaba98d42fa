"""`hotseat lease` and `release`: leases for people and scripts.

What a script reads goes to standard output, what a person watches goes to standard error.
"""

import json
import os
import time

from hotseat.clients.http_api import BrokerError, Client
from hotseat.clients.waiting import (
    LeaseJson,
    QueueTicket,
    ToldToEndError,
    eta_of,
    explained,
    give_back,
    lease_body_of,
    parser,
)
from hotseat.terminal import arguments as words
from hotseat.terminal.ending import end_by
from hotseat.terminal.inbox import Inbox
from hotseat.terminal.progress_line import say
from schemas.command_line import CommandLine, one_of

REFUSED, UNAVAILABLE = 1, 3


def lease(argv: list[str]) -> int:
    """Run `hotseat lease MODEL`: wait for a lease, then print it.

    Returns:
        0 it is held (or waits, with --no-wait), 1 refused or ended, 3 no broker answers, 128 and a signal's number.
    """
    reader = parser("hotseat lease", "Ask for a lease and wait for it. The lease lives until released or expired.")
    reader.add_argument("--no-wait", action="store_true", help="print the place in line instead of waiting")
    reader.add_argument(
        "--format", type=one_of(("text", "json", "env")), default="text", help="text, json, or env for `eval`"
    )
    arguments = reader.parse_args(argv)
    ticket = QueueTicket(
        client=Client.from_environment(url=arguments.url),
        inbox=Inbox(),
        program="hotseat lease",
        wish=lease_body_of(arguments, f"cli:{os.getpid()}"),
        until_s=None if arguments.max_wait is None else time.monotonic() + arguments.max_wait,
    )
    try:
        held = ticket.ask() if arguments.no_wait else ticket.wait()
    except BrokerError as error:
        _let_go(ticket)
        return complain("hotseat lease", ticket, error)
    except ToldToEndError as told:
        _let_go(ticket)
        return end_by(told.signalled)
    try:
        print(_rendered(held, arguments.format), flush=True)
    except OSError:  # nobody knows of it
        _let_go(ticket)
        raise
    return 0 if held["state"] in {"active", "queued"} else REFUSED


def release(argv: list[str]) -> int:
    """`hotseat release`: give a lease back, by id and nonce or by session and model."""
    reader = CommandLine(prog="hotseat release", description="Give a lease back; safe to repeat.")
    reader.add_argument("lease", nargs="?", help="lease id (with --nonce)")
    reader.add_argument("--nonce", help="as printed by `hotseat lease`")
    reader.add_argument("--session", type=words.label(), help="session key (with --model), instead of id and nonce")
    reader.add_argument("--model", type=words.model)
    reader.add_argument("--intent", type=one_of(("use", "warm")), default="use", help="use (default) or warm")
    reader.add_argument("--holder", type=words.label(words.LONGEST_HOLDER))
    words.add_url(reader)
    arguments = reader.parse_args(argv)
    if arguments.lease and arguments.nonce and not (arguments.session or arguments.model):
        body: LeaseJson = {"leaseId": arguments.lease, "nonce": arguments.nonce}
    elif arguments.session and arguments.model and not (arguments.lease or arguments.nonce):
        body = {"sessionKey": arguments.session, "model": arguments.model, "intent": arguments.intent}
        body |= {"holder": arguments.holder} if arguments.holder else {}
    else:
        reader.error("name the lease by LEASE --nonce NONCE, or by --session KEY --model NAME")
    client = Client.from_environment(url=arguments.url)
    try:
        ended = client.post("/release", body)
    except BrokerError as error:
        say(f"hotseat release: {explained(client, error, body)}")
        return status_of(error)
    print(f"{ended['leaseId']} {ended.get('reason', ended['state'])}" if ended else "nothing to give back")
    return 0


def complain(program: str, ticket: QueueTicket, error: BrokerError) -> int:
    """Say why there is no lease, in the words of the command line."""
    say(f"{program}: {explained(ticket.client, error, ticket.wish)}")
    return status_of(error)


def status_of(error: BrokerError) -> int:
    """The exit status: was it refused, or was there nobody to ask?"""
    return REFUSED if error.status or error.code == "max_wait" else UNAVAILABLE


def _let_go(ticket: QueueTicket) -> None:
    if ticket.held is not None:
        give_back(ticket.client, ticket.held, ticket.inbox)  # nobody waits for it any more


def _rendered(held: LeaseJson, kind: str) -> str:
    endpoint = held.get("endpoint", {})
    if kind == "json":
        return json.dumps(held, indent=2)
    if kind == "env":
        pairs = {"HOTSEAT_LEASE": held["leaseId"], "HOTSEAT_NONCE": held["nonce"]}
        if endpoint:
            pairs |= {"OPENAI_BASE_URL": endpoint["baseUrl"], "OPENAI_API_KEY": endpoint["apiKey"]}
        return "\n".join(f"export {name}='{value}'" for name, value in pairs.items())
    lines = [f"{held['leaseId']} {held['state']} on {held['model']}, nonce {held['nonce']}"]
    if held["state"] == "queued":
        lines.append(f"place {held.get('position', '?')}, {eta_of(held)}; ask again: hotseat why {held['leaseId']}")
    if endpoint:
        lines.append(f"{endpoint['baseUrl']}  key {endpoint['apiKey']}  expires in {held['expiresInSeconds']:.0f} s")
    if held["state"] == "ended":
        lines.append(f"ended: {held.get('reason', 'unknown')}")
    return "\n".join(lines)

"""`hotseat lease`, `release` and `run`: leases for people and scripts.

What a script reads goes to standard output, what a person watches goes to standard error.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from hotseat.client import BrokerError, Client, segment

POLL_S = 20.0
"""One long poll; the broker notices a waiter that is gone, so it must be well below the waiter's time-out (60 s)."""
REFUSED, UNAVAILABLE = 1, 3

Lease = dict[str, Any]


def lease(argv: list[str]) -> int:
    """`hotseat lease MODEL`: wait in line, then print the lease."""
    parser = _asking("hotseat lease", "Ask for a lease and wait for it. The lease lives until released or expired.")
    parser.add_argument("--no-wait", action="store_true", help="print the place in line instead of waiting")
    parser.add_argument("--format", choices=("text", "json", "env"), default="text", help="env: lines for `eval`")
    arguments = parser.parse_args(argv)
    client = Client.from_environment(url=arguments.url)
    held: Lease | None = None
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        held = _ask(client, arguments)
        if not arguments.no_wait:
            held = _wait(client, held)
    except BrokerError as error:
        return _complain(error)
    except KeyboardInterrupt:
        if held is not None:
            _give_back(client, held)  # nobody waits for it any more
        return 130
    print(_rendered(held, arguments.format))
    return 0 if held["state"] in {"active", "queued"} else REFUSED


def release(argv: list[str]) -> int:
    """`hotseat release`: give a lease back, by id and nonce or by session and model."""
    parser = argparse.ArgumentParser(prog="hotseat release", description="Give a lease back; safe to repeat.")
    parser.add_argument("lease", nargs="?", help="lease id (with --nonce)")
    parser.add_argument("--nonce", help="as printed by `hotseat lease`")
    parser.add_argument("--session", help="session key (with --model), instead of id and nonce")
    parser.add_argument("--model")
    parser.add_argument("--intent", choices=("use", "warm"), default="use")
    parser.add_argument("--holder")
    parser.add_argument("--url", help="broker's address (HOTSEAT_URL)")
    arguments = parser.parse_args(argv)
    if arguments.lease and arguments.nonce:
        body: Lease = {"leaseId": arguments.lease, "nonce": arguments.nonce}
    elif arguments.session and arguments.model and not arguments.lease:
        body = {"sessionKey": arguments.session, "model": arguments.model, "intent": arguments.intent}
        body |= {"holder": arguments.holder} if arguments.holder else {}
    else:
        parser.error("name the lease by LEASE --nonce NONCE, or by --session KEY --model NAME")
    try:
        ended = Client.from_environment(url=arguments.url).post("/release", body)
    except BrokerError as error:
        return _complain(error)
    print(f"{ended['leaseId']} {ended.get('reason', ended['state'])}" if ended else "nothing to give back")
    return 0


def run(argv: list[str]) -> int:
    """`hotseat run MODEL -- COMMAND …`: run a command under a lease and give it back afterwards."""
    own, command = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = _asking("hotseat run", "Run a command under a lease: OPENAI_BASE_URL and OPENAI_API_KEY are set for it.")
    parser.usage = "hotseat run MODEL [options] -- COMMAND [ARGUMENT ...]"
    arguments = parser.parse_args(own)
    if not command:
        parser.error("say what to run after `--`")
    client = Client.from_environment(url=arguments.url)
    held: Lease | None = None
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        held = _ask(client, arguments)
        held = _wait(client, held)
        if held["state"] != "active":
            return _complain(BrokerError(f"the lease ended: {held.get('reason', 'unknown')}", status=410))
        return _under(client, held, command, arguments.ttl)
    except BrokerError as error:
        return _complain(error)
    except KeyboardInterrupt:
        return 130
    finally:
        if held is not None:
            _give_back(client, held)


def _asking(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("model", help="a name of `hotseat ps`")
    parser.add_argument("--session", default=f"cli:{os.getpid()}", help="conversation or job (default: this process)")
    parser.add_argument("--ttl", type=float, default=60.0, help="seconds the lease lives unless renewed (60)")
    parser.add_argument("--priority", default="normal", help="interactive, normal, background, batch, or -5 … 5")
    parser.add_argument("--intent", choices=("use", "warm"), default="use")
    parser.add_argument("--holder", help="who uses it within the session")
    parser.add_argument("--expected", type=float, help="seconds you expect to hold it: improves everybody's ETA")
    parser.add_argument("--url", help="broker's address (HOTSEAT_URL; http://127.0.0.1:4687)")
    return parser


def _ask(client: Client, arguments: argparse.Namespace) -> Lease:
    priority = arguments.priority
    body: Lease = {
        "sessionKey": arguments.session,
        "model": arguments.model,
        "ttlSeconds": arguments.ttl,
        "intent": arguments.intent,
        "priority": int(priority) if priority.lstrip("-").isdigit() else priority,
    }
    body |= {"holder": arguments.holder} if arguments.holder else {}
    body |= {"expectedSeconds": arguments.expected} if arguments.expected else {}
    return client.post("/lease", body)


def _interrupted(_number: int, _frame: object) -> None:
    """Whoever is told to end gives back what it has, as at Ctrl-C."""
    raise KeyboardInterrupt


def _wait(client: Client, held: Lease) -> Lease:
    """Poll until the lease is no longer queued, saying place and ETA whenever they change."""
    said = ""
    while held["state"] == "queued":
        said = _say(held, said)
        wait_s = 2.0 if sys.stderr.isatty() else POLL_S
        fresh = client.get(f"/lease/{segment(held['leaseId'])}?wait={wait_s:g}", wait_s=wait_s)
        held = {**fresh, "nonce": fresh.get("nonce", held["nonce"])}
    return held


def _say(held: Lease, said: str) -> str:
    eta = f"about {max(1.0, held['etaSeconds']):.0f} s" if "etaSeconds" in held else "ETA unknown"
    because = f" ({held['waitReason'].replace('_', ' ')})" if "waitReason" in held else ""
    line = f"{held['model']}: place {held.get('position', '?')}, {eta}{because}"
    if line != said:
        print(line, file=sys.stderr, flush=True)
    return line


def _under(client: Client, held: Lease, command: list[str], ttl_s: float) -> int:
    environment = dict(os.environ)
    if "endpoint" in held:
        environment |= {"OPENAI_BASE_URL": held["endpoint"]["baseUrl"], "OPENAI_API_KEY": held["endpoint"]["apiKey"]}
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):  # before there is a child: one that comes in between is not lost
        signal.signal(number, lambda received, _frame: asked.append(received))
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"hotseat run: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    for early in asked:
        child.send_signal(early)
    done = threading.Event()
    renewing = threading.Thread(target=_keep, args=(client, held, ttl_s, done), daemon=True)
    renewing.start()
    try:
        status = child.wait()
    finally:
        done.set()
        renewing.join(timeout=2.0)
    return status if status >= 0 else 128 - status


def _keep(client: Client, held: Lease, ttl_s: float, done: threading.Event) -> None:
    """Renew at a third of the TTL; say so once when the broker wants the lease back or has forgotten it."""
    warned = False
    while not done.wait(ttl_s / 3):
        try:
            state = client.post("/renew", {"leaseId": held["leaseId"], "nonce": held["nonce"], "ttlSeconds": ttl_s})
            if state["state"] == "ending" and not warned:
                warned = True
                print(f"hotseat run: asked to end within {state['expiresInSeconds']:.0f} s", file=sys.stderr)
        except BrokerError as error:
            print(f"hotseat run: {error}", file=sys.stderr)
            if error.status in {404, 409, 410}:
                return


def _give_back(client: Client, held: Lease) -> None:
    for attempt in range(3):
        try:
            client.post("/release", {"leaseId": held["leaseId"], "nonce": held["nonce"]})
        except BrokerError as error:
            if error.status:
                return
            time.sleep(0.5 * (attempt + 1))
        else:
            return


def _rendered(held: Lease, kind: str) -> str:
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
        lines.append(f"place {held.get('position', '?')}; ask again: hotseat why {held['leaseId']}")
    if endpoint:
        lines.append(f"{endpoint['baseUrl']}  key {endpoint['apiKey']}  expires in {held['expiresInSeconds']:.0f} s")
    if held["state"] == "ended":
        lines.append(f"ended: {held.get('reason', 'unknown')}")
    return "\n".join(lines)


def _complain(error: BrokerError) -> int:
    retry = f" (try again in {error.retry_after_s:.0f} s)" if error.retry_after_s else ""
    print(f"hotseat: {error}{retry}", file=sys.stderr)
    return REFUSED if error.status else UNAVAILABLE

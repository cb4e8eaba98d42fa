"""`hotseat cordon`, `drain`, `uncordon`, `heal`: slots; `load`, `unload`, `model`: one model, by hand.

Each says what came of it in one line (`--json`: the broker's own answer) and ends with 0; 1: refused, 3: no broker.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from hotseat.clients.http_api import BrokerError, Client, segment
from hotseat.commands.ps import text_table
from hotseat.terminal import arguments as words
from hotseat.terminal.progress_line import say
from schemas.command_line import CommandLine, meant
from schemas.residency import Residency

REFUSED, UNAVAILABLE = 1, 3
LONGEST_REASON = 200
LOOK_S = 0.5
"""Pause between two looks at a load that is waited for, seconds."""
PICTURE_S = 2.0
"""How old the broker's picture may be, seconds: a load that was just ordered does not show in it yet."""

_Answer = dict[str, Any]
SLOT_WORDS = {
    "cordon": ("No new leases on a slot; who has one keeps it.", "is cordoned: no new leases"),
    "drain": ("No new leases on a slot, and give up its models as their leases end.", "is draining"),
    "uncordon": ("Let a slot grant leases again.", "is open again, unless its worker reports a fault"),
    "heal": (
        "Forget the failures of models on a slot: they are tried again at once, and all models' answers are trusted.",
        "is healed: its models are tried again at once",
    ),
}


def cordon(argv: list[str]) -> int:
    """Run `hotseat cordon [SLOT]`: no new leases there."""
    return _slot("cordon", argv)


def drain(argv: list[str]) -> int:
    """Run `hotseat drain [SLOT]`: no new leases there, and unload once it is idle."""
    return _slot("drain", argv)


def uncordon(argv: list[str]) -> int:
    """Run `hotseat uncordon [SLOT]`: leases are granted there again."""
    return _slot("uncordon", argv)


def heal(argv: list[str]) -> int:
    """Run `hotseat heal [SLOT]`: forget failed loads there; without a slot everywhere."""
    return _slot("heal", argv)


def load(argv: list[str]) -> int:
    """Run `hotseat load MODEL`: load it now and wait until it is ready."""
    parser = _parser("hotseat load", "Load a model now, in spite of back-off; idle models make room, used ones never.")
    parser.add_argument("model", type=words.model, help="a name of `hotseat model`")
    parser.add_argument("--slot", help="where (default: where least is lost)")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it is ready")
    arguments = parser.parse_args(argv)

    def act(client: Client) -> _Answer:
        moved = client.post(f"/models/{_path(arguments.model)}/load", _place(arguments.slot))
        if not arguments.no_wait:
            moved["state"] = _until_loaded(client, arguments.model)
        return moved

    return _done(act, arguments, lambda moved: f"{moved['model']} is {moved['state']} on {_listed(moved['slots'])}")


def unload(argv: list[str]) -> int:
    """Run `hotseat unload MODEL`: give its memory back now."""
    parser = _parser("hotseat unload", "Unload a model that nobody uses; it comes back when somebody asks for it.")
    parser.add_argument("model", type=words.model, help="a name of `hotseat model`")
    parser.add_argument("--slot", help="where (default: everywhere)")
    arguments = parser.parse_args(argv)

    def act(client: Client) -> _Answer:
        return client.post(f"/models/{_path(arguments.model)}/unload", _place(arguments.slot))

    def said(moved: _Answer) -> str:
        where = f"is {moved['state']} on {_listed(moved['slots'])}" if moved["slots"] else "is not loaded"
        return f"{moved['model']} {where}"

    return _done(act, arguments, said)


def model(argv: list[str]) -> int:
    """Run `hotseat model [NAME]`, `hotseat model off NAME --reason WHY` or `hotseat model on NAME`."""
    actions = {"off": _model_off, "on": _model_on}
    if argv and argv[0] in actions:
        return actions[argv[0]](argv[1:])
    parser = _parser(
        "hotseat model",
        "The models: state, load time, who holds and waits, what is wrong. "
        "`hotseat model off NAME --reason WHY` takes one out of service, `hotseat model on NAME` puts it back.",
    )
    parser.add_argument("name", nargs="?", help="one of them (default: all)")
    arguments = parser.parse_args(argv)

    def act(client: Client) -> _Answer:
        models = client.get("/models")["models"]
        found = [one for one in models if arguments.name in {None, one["name"]}]
        if not found:
            raise BrokerError(_no("model", arguments.name, [one["name"] for one in models]), status=404)
        return {"models": found}

    return _done(act, arguments, lambda answer: "\n".join(_model_lines(answer["models"])))


def _model_off(argv: list[str]) -> int:
    parser = _parser(
        "hotseat model off",
        "Take a model out of service: who waits for it is told the reason, who has it keeps it, then it is unloaded.",
    )
    parser.add_argument("model", type=words.model, help="a name of `hotseat model`")
    parser.add_argument(
        "--reason",
        type=words.label(LONGEST_REASON),
        required=True,
        metavar="WHY",
        help="told to everybody who asks for it",
    )
    arguments = parser.parse_args(argv)

    def act(client: Client) -> _Answer:
        return client.post(f"/models/{_path(arguments.model)}/off", {"reason": arguments.reason})

    return _done(act, arguments, lambda answer: f"{answer['model']} is out of service: {answer['off']}")


def _model_on(argv: list[str]) -> int:
    parser = _parser("hotseat model on", "Put a model back into service.")
    parser.add_argument("model", type=words.model, help="a name of `hotseat model`")
    arguments = parser.parse_args(argv)

    def act(client: Client) -> _Answer:
        return client.post(f"/models/{_path(arguments.model)}/on", {})

    return _done(act, arguments, lambda answer: f"{answer['model']} is in service")


def _slot(action: str, argv: list[str]) -> int:
    description, said = SLOT_WORDS[action]
    everywhere = action == "heal"
    parser = _parser(f"hotseat {action}", description)
    default = "all of them" if everywhere else "the only one there is"
    parser.add_argument("slot", nargs="?", help=f"a name of `hotseat ps` (default: {default})")
    arguments = parser.parse_args(argv)

    def act(client: Client) -> _Answer:
        slots = [arguments.slot] if arguments.slot else _all_slots(client, action)
        for slot in slots:
            client.post(f"/slots/{segment(slot)}/{action}", {})
        return {"action": action, "slots": slots}

    return _done(act, arguments, lambda answer: "\n".join(f"slot {slot} {said}" for slot in answer["slots"]))


def _all_slots(client: Client, action: str) -> list[str]:
    """Find the slots that are meant where none is named.

    Raises:
        BrokerError: There is none, or more than one where one is meant.
    """
    slots = [slot["slot"] for slot in client.get("/status")["slots"]]
    if not slots:
        raise BrokerError("no worker has reported a slot yet", status=404)
    if len(slots) > 1 and action != "heal":
        raise BrokerError(f"name one of {len(slots)} slots: {_listed(slots)}", status=422)
    return slots


def _done(act: Callable[[Client], _Answer], arguments: argparse.Namespace, said: Callable[[_Answer], str]) -> int:
    client = Client.from_environment(url=arguments.url)
    try:
        answer = act(client)
    except BrokerError as error:
        say(f"hotseat: {_in_our_words(client, error, arguments)}")
        return REFUSED if error.status else UNAVAILABLE
    print(json.dumps(answer, indent=2) if arguments.json else said(answer))
    return 0


def _in_our_words(client: Client, error: BrokerError, arguments: argparse.Namespace) -> str:
    """Repeat the broker's words; for a name that it does not know say what there is, and what may have been meant."""
    lists = {"unknown_slot": ("slot", "/status", "slots"), "unknown_model": ("model", "/models", "models")}
    if error.code in lists:
        kind, path, key = lists[error.code]
        try:
            known = [one.get("slot") or one["name"] for one in client.get(path)[key]]
        except BrokerError:
            return str(error)
        return _no(kind, getattr(arguments, kind), known)
    return str(error)


def _no(kind: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    there_are = f"; there are: {_listed(names)}" if names else ""
    return f"there is no {kind} {name!r}{meant(name, names) or there_are}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _until_loaded(client: Client, name: str) -> str:
    """Wait until a load has ended.

    Raises:
        BrokerError: It failed, or was taken back.
    """
    asked_s = time.monotonic()
    while True:
        time.sleep(LOOK_S)
        found = next(
            (one for one in client.get("/models")["models"] if one["name"] == name), {"state": Residency.ABSENT.value}
        )
        if found["state"] == Residency.READY:
            return Residency.READY.value
        if found["state"] != Residency.LOADING and time.monotonic() - asked_s > PICTURE_S:
            why = found.get("loadError") or "its load was taken back"
            raise BrokerError(f"{name} is not loaded: {why}", status=424)


def _model_lines(models: list[_Answer]) -> list[str]:
    rows: list[tuple[str, ...]] = [("MODEL", "STATE", "SLOTS", "MEMORY", "LOAD", "HELD", "WAITING", "")]
    return text_table([*rows, *map(_model_row, models)])


def _model_row(one: _Answer) -> tuple[str, ...]:
    return (
        one["name"],
        "off" if one.get("off") else one["state"],
        _listed(one["slots"]),
        f"{one['memoryMib']} MiB",
        f"{one['loadSeconds']:.1f} s",
        f"{one['holders']}/{one['leaseLimit']}",
        str(one["waiters"]),
        _wrong(one),
    )


def _wrong(one: _Answer) -> str:
    """Say what is wrong with a model, in a few words; empty: nothing is."""
    if one.get("off"):
        return f"out of service: {one['off']}"
    if one.get("loadError"):
        return f"cannot be loaded now: {one['loadError']}"
    return "" if one["trust"] == "trusted" else f"its answers are {one['trust']}"


def _place(slot: str | None) -> _Answer:
    return {} if slot is None else {"slot": slot}


def _path(name: str) -> str:
    """Make the path of a model, whose name may have slashes, which the broker takes as they are."""
    return "/".join(segment(part) for part in name.split("/"))


def _parser(program: str, description: str) -> CommandLine:
    parser = CommandLine(prog=program, description=description)
    parser.add_argument("--json", action="store_true", help="the broker's own answer, for scripts")
    words.add_url(parser)
    return parser

"""A walk's steps carried out by the Python machine and by the Lua library on a real server."""

import socket
from collections.abc import Callable
from typing import Any

import hiredis

from broker.core.errors import HotseatError
from broker.core.lease import LeaseRecord
from broker.core.snapshot import Snapshot
from broker.pool import check as pool_check
from broker.pool import ps, views
from broker.pool.machine import Pool
from broker.pool.records.lease_row import ASK_FIELDS, Ask
from broker.pool.records.rows import EventRow
from broker.store.redis import codec, wire
from broker.store.redis.link import ReplyError
from broker.store.redis.lua_library import library_source
from schemas.messages import report_to_hash
from tests.fakes.store_rigs import steerable
from tests.property.pool_dump import DUMP_SCRIPT, Dump, dump_redis, pairs_of
from tests.property.pool_walk import MODELS, SETTINGS, START_MS, Step

BASE = "hotseat:{walk}"
Outcome = LeaseRecord | str | int | None
"""A record, the code of a refusal, the milliseconds of a tick, or nothing."""


class PythonMachine:
    """The pool itself, called as the store would."""

    def __init__(self, pool: Pool, run: str) -> None:
        self.pool, self.run, self.wall_ms = pool, run, START_MS
        self.history: list[EventRow] = []
        self._entries = 0
        pool.init(self.wall_ms, run, SETTINGS, MODELS)
        self._collect()

    def apply(self, step: Step) -> Outcome:
        """One step."""
        if step.call == "time":
            self.wall_ms += step.args["ms"]
            return None
        if step.call == "restart":
            self.run = step.args["run"]
            return None
        try:
            if step.call == "init":
                self.pool.init(self.wall_ms, self.run, step.args["settings"], step.args["models"])
                return None
            self.pool.begin(self.wall_ms, self.run)
            return self._call(step.call, dict(step.args))
        except HotseatError as refusal:
            return refusal.code.upper()
        finally:
            self._collect()

    def _collect(self) -> None:
        self.history += self.pool.events
        self.pool.events.clear()
        self.pool.rings.clear()

    def _call(self, name: str, args: dict[str, Any]) -> Outcome:
        pool = self.pool
        if name == "tick":
            return pool.tick()
        if name == "ingest":
            return self._ingest(**args)
        if name == "reject":
            return pool.reject_ingress(args["why"])
        if name == "observe":
            return pool.observe(args["slot"], {name: text_of(word) for name, word in fields_of(args).items()})
        if name == "acquire":
            return views.record(pool, pool.acquire(args["ask"]))
        lease = getattr(pool, name)(**args)
        return views.record(pool, lease) if name in {"poll", "renew", "release", "end"} else None

    def _ingest(self, *, sh: str, sequence: int | None, effect: str, ask: Ask, lease_id: Any, gone: bool) -> Outcome:
        pool, lease = self.pool, None
        if gone or pool.is_old(sh, sequence):
            return None
        if effect == "acquire":
            lease = pool.acquire(ask)
        elif effect == "renew":
            lease = pool.renew(lease_id, None, ttl_ms=7000, who="ingress:hook")
        elif effect == "release":
            lease = pool.release(lease_id, None, who="ingress:hook")
        pool.note_sequence(sh, sequence, who="ingress:hook")
        return views.record(pool, lease) if lease else None


def fields_of(args: dict[str, Any]) -> dict[str, Any]:
    """What the worker writes, and what is written over it."""
    return report_to_hash(args["report"]) | args.get("lies", {})


def text_of(word: str | bytes) -> str:
    return word if isinstance(word, str) else word.decode("utf-8", "surrogateescape")


def ask_words(ask: Ask) -> list[Any]:
    return codec.store_words_of(getattr(ask, name) for name in ASK_FIELDS)


class LuaMachine:
    """The function library on a server, over one blocking socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = hiredis.Reader(replyError=ReplyError)
        self._call("FUNCTION", "LOAD", "REPLACE", steerable(library_source()))

    def close(self) -> None:
        self._socket.close()

    def start(self, run: str) -> None:
        """A new pool."""
        self.run, self.wall_ms, self._last_id, self._told = run, START_MS, "-", (0, "")
        self._call("FLUSHALL")
        self.apply(Step("init", {"settings": SETTINGS, "models": MODELS}))

    def _send(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self._socket.sendall(b"".join(hiredis.pack_command(words) for words in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            self._reader.feed(self._socket.recv(1 << 18))
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
        return replies

    def _call(self, *words: Any) -> Any:
        reply = self._send([words])[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _world(self) -> list[tuple[Any, ...]]:
        if self._told == (self.wall_ms, self.run):
            return []
        self._told = (self.wall_ms, self.run)
        seconds, milliseconds = divmod(self.wall_ms, 1000)
        clock = ("RPUSH", "test:time", str(seconds), str(milliseconds * 1000))
        return [("DEL", "test:time"), clock, ("SET", "test:run", self.run)]

    def apply(self, step: Step) -> Outcome:
        """One step."""
        if step.call == "time":
            self.wall_ms += step.args["ms"]
            return None
        if step.call == "restart":
            self.run = step.args["run"]
            return None
        before, name, words = self._words(step.call, dict(step.args))
        told = ("XRANGE", f"{BASE}:events", self._last_id, "+")
        commands = [*self._world(), *before, ("FCALL", f"hotseat1_{name}", 1, BASE, *words), told]
        reply, self._news = self._send(commands)[-2:]
        if isinstance(reply, Exception):
            return str(reply).partition(" ")[0]
        if name == "tick":
            return int(reply) if reply else None
        return codec.lease_of(wire.LEASE.decode(reply)) if reply else None

    def _words(self, call: str, args: dict[str, Any]) -> tuple[list[tuple[Any, ...]], str, list[Any]]:
        if call == "acquire":
            return [], call, ask_words(args["ask"])
        if call == "init":
            return [], call, codec.init_words(args["settings"], args["models"])
        if call == "observe":
            key = f"{BASE}:report:{args['slot']}"
            flat = [word for pair in fields_of(args).items() for word in pair]
            return [("DEL", key), ("HSET", key, *flat)], call, [args["slot"]]
        if call in {"ingest", "reject"}:
            return self._ingress_words(call, args)
        order = ORDER[call]
        words = [args[name] for name in order if name != "evict"] + list(args.get("evict", ()))
        return [], {"set_slot": "slot_state", "set_model": "model_state"}.get(call, call), words

    def _ingress_words(self, call: str, args: dict[str, Any]) -> tuple[list[tuple[Any, ...]], str, list[Any]]:
        entry = self._call("XADD", f"{BASE}:ingress", "*", "type", "lease")
        if call == "reject":
            return [], call, [entry, args["why"]]
        if args["gone"]:
            self._call("XDEL", f"{BASE}:ingress", entry)
        effects: dict[str, Callable[[], list[str]]] = {
            "acquire": lambda: ask_words(args["ask"]),
            "renew": lambda: [args["lease_id"], "", "7000", "ingress:hook"],
            "release": lambda: [args["lease_id"], "ingress:hook"],
            "none": list,
        }
        number = "" if args["sequence"] is None else args["sequence"]
        return [], call, [entry, args["sh"], number, "ingress:hook", args["effect"], *effects[args["effect"]]()]

    def events(self) -> list[dict[str, str]]:
        """What the last call wrote into the stream, and what no look has told yet."""
        if self._news:
            self._last_id = f"({self._news[-1][0].decode()}"
        return [pairs_of(words) for _, words in self._news]

    def dump(self) -> Dump:
        """All keys, as they are now."""
        return dump_redis(self._call("EVAL", DUMP_SCRIPT, 1, BASE))

    def read(self) -> tuple[Snapshot, list[str], str]:
        """What readers see: snapshot, table, check."""
        functions = [("FCALL_RO", f"hotseat1_{name}", 1, BASE) for name in ("snapshot", "ps", "check")]
        snapshot, lines, found = self._send([*self._world(), *functions])[-3:]
        table = [line.decode() for line in lines]
        return codec.read_snapshot(snapshot), table, found.decode()


ORDER = {
    "poll": ("lease_id", "waiter_ttl_ms"),
    "renew": ("lease_id", "nonce", "ttl_ms", "who"),
    "release": ("lease_id", "nonce", "who"),
    "end": ("lease_id", "who", "why"),
    "send_away": ("lease_id", "nonce", "life", "back_ms", "kept_ms"),
    "begin_life": ("life",),
    "rejoin": ("life",),
    "beat": ("life",),
    "end_life": ("life",),
    "preempt": ("lease_id", "grace_ms", "why"),
    "tick": (),
    "want": ("slot", "generation", "model", "why", "key", "depth", "evict"),
    "unwant": ("slot", "generation", "model", "why"),
    "admit": ("slot", "residency_generation", "model", "why", "number"),
    "set_slot": ("slot", "event", "who"),
    "set_model": ("model", "off", "who"),
    "doubt": ("slot", "residency_generation", "model", "who", "why"),
}


def events_of(rows: list[EventRow]) -> list[dict[str, str]]:
    """Python events as stream fields."""
    return [{"seq": str(row.seq), "type": row.kind, "t": str(row.at_ms), **row.fields} for row in rows]


def python_reads(machine: PythonMachine) -> tuple[Snapshot, list[str], str]:
    """What readers see, from Python."""
    pool = machine.pool
    step = machine.wall_ms - pool.known.clock_wall
    pool.now = pool.known.clock_log + min(max(step, 0), pool.settings.max_step_ms)
    found = pool_check.check(pool)
    return views.snapshot(pool), ps.table(pool), "[]" if not found else str(found)

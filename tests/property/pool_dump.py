"""A pool as the keys that Redis would hold: the full visible state, for comparing both interpreters."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from broker.core.lease import PRIORITIES, RANK
from broker.pool.machine import Pool
from broker.pool.records.ordering import score
from broker.pool.records.rows import Statistic
from broker.pool.records.shares import TURN_STEP

Dump = dict[str, Any]

DUMP_SCRIPT = """
local out = {}
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. ':*')) do
  local kind, name = redis.call('TYPE', key).ok, string.sub(key, #KEYS[1] + 2)
  if kind == 'hash' then out[#out + 1] = {name, 'map', redis.call('HGETALL', key)}
  elseif kind == 'zset' then out[#out + 1] = {name, 'map', redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')}
  elseif kind == 'set' then out[#out + 1] = {name, 'set', redis.call('SMEMBERS', key)}
  elseif kind == 'string' then out[#out + 1] = {name, 'string', redis.call('GET', key)}
  end
end
return out
"""
"""Run with ``EVAL``: every key but the streams."""


def _text(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is int:
        return str(value)
    if isinstance(value, bool):
        return "1" if value else ""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, dict):
        return " ".join(f"{key}={number}" for key, number in value.items())
    return "" if value is None else str(value)


def kept(fields: dict[str, Any]) -> dict[str, str]:
    """Fields that say something: a missing one, an empty one and a zero are the same."""
    return {name: text for name, value in fields.items() if (text := _text(value)) and text != "0"}


def _row(row: Any, skip: Iterable[str] = ()) -> dict[str, str]:
    fields: dict[str, Any] = {}
    for name in row.__slots__:
        value = getattr(row, name)
        if type(value) is Statistic:
            fields |= {f"{name}_ms": value.mean, f"{name}_var": value.var, f"{name}_n": value.n}
        elif value and name not in skip:
            fields[name] = value
    return kept(fields)


def _meta(pool: Pool) -> dict[str, str]:
    rules = pool.settings
    settings = {name: getattr(rules, name) for name in rules.__slots__ if name != "max_wait_ms"}
    waits = {f"max_wait_ms:{priority.value}": rules.max_wait_ms[RANK[priority]] for priority in PRIORITIES}
    return kept({"schema": "1"} | settings | waits) | _row(pool.known)


def dump_pool(pool: Pool) -> Dump:
    """The Python machine."""
    out: Dump = {"meta": _meta(pool), "models": set(pool.models), "slots": set(pool.slots)}
    out |= {f"model:{name}": _row(row) for name, row in pool.models.items()}
    out |= {f"slot:{name}": _row(row, skip=("slot",)) for name, row in pool.slots.items()}
    out |= {f"residency:{slot}:{name}": _row(row) for (slot, name), row in pool.residencies.items()}
    out |= {f"lease:{name}": _row(row) for name, row in pool.leases.items()}
    out |= {f"tenant:{name}": _row(row) for name, row in pool.tenants.items()}
    out |= {f"mine:{who}": _scores(mine) for who, mine in pool.mine.items()}
    out |= {f"kept:{who}": _scores(kept.items()) for who, kept in pool.kept.items()}
    out |= {f"op:{name}": f"{row.lease_id} {row.body}" for name, row in pool.ops.items()}
    for name, queue in pool.queues.items():
        leases = [pool.leases[lease_id] for lease_id in queue]
        out[f"queue:{name}"] = {lease.id: str(score(RANK[lease.priority], lease.arrival)) for lease in leases}
        turns = {f"{lease.arrival:016d}{lease.id}": RANK[lease.priority] * TURN_STEP + lease.turn for lease in leases}
        out[f"turn:{name}"] = kept(_scores(turns))
    out |= {f"share:{name}": _scores(shares) for name, shares in pool.shares.items()}
    out |= {f"held:{slot}:{name}": _scores(held) for (slot, name), held in pool.held.items()}
    out |= {f"warm:{name}": _scores(warm) for name, warm in pool.warm.items()}
    out["due"] = _scores(pool.due.items())
    out["brokers"] = kept(_scores({life: row.beat for life, row in pool.lives.items()}))
    out |= {f"life:{life}": _scores(row.tickets) for life, row in pool.lives.items()}
    out |= {f"left:{name}": _scores(places) for name, places in pool.left.items()}
    out |= {f"place:{place}": _scores(places) for place, places in pool.places.items()}
    for name, session in pool.sessions.items():
        out[f"session:{name}"] = kept({"queued": session.queued, "left": session.left}) | session.live
        if session.seq is not None:
            out[f"session:{name}"]["seq"] = str(session.seq)
    for slot, orders in pool.orders.items():
        wants = {f"want:{model}": gen for model, (gen, _, _) in orders.wants.items()}
        keys = {f"key:{model}": key for model, (_, key, _) in orders.wants.items()}
        depths = {f"depth:{model}": depth for model, (_, _, depth) in orders.wants.items()}
        proofs = {f"prove:{model}": number for model, number in orders.proofs.items()}
        out[f"orders:{slot}"] = _row(orders, skip=("wants", "proofs")) | kept(wants | keys | depths | proofs)
    return {key: value for key, value in out.items() if value}


def _scores(members: dict[Any, int]) -> dict[str, str]:
    return {str(member): str(number) for member, number in members.items()}


def pairs_of(flat: list[bytes]) -> dict[str, str]:
    """A flat reply's names and values."""
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def dump_redis(reply: list[Any]) -> Dump:
    """A real server's keys without streams and reports."""
    out: Dump = {}
    for raw, kind, value in reply:
        name = raw.decode()
        if name.startswith(("report:", "ring:")):
            continue
        if kind == b"map":
            pairs = pairs_of(value)
            is_session = name.startswith("session:")
            out[name] = kept(pairs) | ({"seq": pairs["seq"]} if is_session and "seq" in pairs else {})
        elif kind == b"set":
            out[name] = {member.decode() for member in value}
        elif kind == b"string":
            out[name] = value.decode()
    return {key: value for key, value in out.items() if value}

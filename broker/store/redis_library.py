"""Before the first call: is this a server we can trust, and does it have our function library?"""

from broker.core.errors import LibraryError, StoreUnavailableError
from broker.store.lua_library import LIBRARY, VERSION, library_hash, library_source
from broker.store.redis_codec import error_of, text
from broker.store.redis_link import Link, ReplyError
from broker.store.redis_wire import HELLO

OLDEST = (7, 0)
"""Redis 7.0 and Valkey 7.2 (which calls itself redis 7.2.4) have functions."""


async def check_server(link: Link) -> list[str]:
    """Refuse a server that would lose leases; say what is merely unwise.

    Raises:
        StoreUnavailableError: Too old, or it may evict keys.
    """
    try:
        facts = _facts(text(await link.call("INFO")))
    except ReplyError as refusal:
        return [f"the store does not tell what it is, so nothing about it was checked: {refusal}"]
    version = facts.get("redis_version", "0.0").split(".")
    if (int(version[0]), int(version[1])) < OLDEST:
        raise StoreUnavailableError(f"Redis {'.'.join(version)} has no functions: use Redis 7.0, Valkey 7.2 or newer")
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreUnavailableError(f"maxmemory-policy is {policy}: leases could vanish; set it to noeviction")
    warnings = []
    if facts.get("aof_enabled", "0") != "1":
        warnings.append("the store has no append-only file: a restart loses every lease; set appendonly yes")
    elif await _fsync(link) not in {"always", ""}:
        warnings.append("appendfsync is not always: a power loss loses up to a second of leases")
    return warnings


async def ensure_library(link: Link, base: str) -> None:
    """Load the library where it is missing or older.

    Raises:
        LibraryError: A newer one is there, or it cannot be loaded.
    """
    known = await _loaded_version(link, base)
    if known is not None and known[1] == library_hash():
        return
    if known is not None and known[0] > VERSION:
        raise LibraryError(
            f"the store has version {known[0]} of the function library {LIBRARY}, this broker has {VERSION}: "
            "upgrade this broker, or stop the newer ones and run FUNCTION DELETE " + LIBRARY
        )
    try:
        await link.call("FUNCTION", "LOAD", "REPLACE", library_source())
    except ReplyError as refusal:
        raise LibraryError(f"cannot load the function library {LIBRARY}: {refusal}") from refusal


async def _loaded_version(link: Link, base: str) -> tuple[int, str] | None:
    try:
        hello = HELLO.decode(await link.call("FCALL_RO", f"{LIBRARY}_hello", 1, base))
    except ReplyError as refusal:
        error = error_of(str(refusal))
        if isinstance(error, LibraryError):
            return None
        raise error from refusal
    return hello.version, hello.hash


async def _fsync(link: Link) -> str:
    try:
        reply = await link.call("CONFIG", "GET", "appendfsync")
    except ReplyError:
        return ""  # not allowed to look
    return text(reply[1]) if reply else ""


def _facts(info: str) -> dict[str, str]:
    lines = (line.partition(":") for line in info.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in lines}

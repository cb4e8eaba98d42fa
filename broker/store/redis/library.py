"""Before the first call: is this a server we can trust, and does it have our function library?"""

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from broker.core.errors import LibraryError, NewerLibraryError, StoreUnavailableError
from broker.store.redis.codec import error_of, text
from broker.store.redis.link import Link, ReplyError
from broker.store.redis.lua_library import LIBRARY, VERSION, library_hash, library_source
from broker.store.redis.wire import HELLO

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
        NewerLibraryError: A newer one is there.
        LibraryError: One of somebody else is there under its name, or it cannot be loaded.
    """
    known = await _loaded(link, base)
    if known is not None and known[1] == library_hash():
        return
    if known is None and (others := await _functions_of_others(link)):
        raise LibraryError(
            f"another program's function library named {LIBRARY} is in this store, with {_listed(others)}: use another "
            f"server, or move that one away and run FUNCTION DELETE {LIBRARY}"
        )
    try:
        await link.call("FUNCTION", "LOAD", "REPLACE", library_source())
    except ReplyError as refusal:
        raise LibraryError(
            f"cannot load the function library {LIBRARY}: {refusal}; FUNCTION LIST on the server says what is there"
        ) from refusal


async def library_advice(link: Link, base: str) -> list[str]:
    """What is unwise about the library that a running broker finds.

    Raises:
        NewerLibraryError, LibraryError
    """
    known = await _loaded(link, base)
    if known is None:
        await ensure_library(link, base)
        return []
    if known[1] == library_hash():
        return []
    return ["another build of Hotseat has loaded its function library: run brokers of one build on a store"]


async def _loaded(link: Link, base: str) -> tuple[int, str] | None:
    """Version and hash of ours that is there; None where there is none.

    Raises:
        NewerLibraryError
        LibraryError: What is there answers, and not as ours does.
    """
    try:
        reply = await link.call("FCALL_RO", f"{LIBRARY}_hello", 1, base)
    except ReplyError as refusal:
        error = error_of(str(refusal))
        if isinstance(error, LibraryError):
            return None
        if isinstance(error, StoreUnavailableError):
            raise error_of(str(refusal)) from refusal
        raise LibraryError(f"{LIBRARY}_hello in this store is not ours, it answers {str(refusal)!r}") from refusal
    try:
        hello = HELLO.decode(reply)
    except (msgspec.MsgspecError, TypeError) as error:
        raise LibraryError(f"{LIBRARY}_hello in this store is not ours, it answers {reply!r:.100}") from error
    if hello.version > VERSION:
        raise NewerLibraryError(
            f"the store has version {hello.version} of the function library {LIBRARY}, this broker has {VERSION}: "
            "upgrade this broker, or stop the newer ones and run FUNCTION DELETE " + LIBRARY
        )
    return hello.version, hello.hash


async def _functions_of_others(link: Link) -> list[str]:
    """Names of the functions of a library that bears our name and is not ours."""
    try:
        libraries = await link.call("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY)
    except ReplyError:
        return []  # not allowed to look
    names = [text(word) for word in _words(libraries)]
    return sorted({after for before, after in pairwise(names) if before == "name"})


def _words(reply: object) -> Iterator[bytes]:
    if isinstance(reply, bytes):
        yield reply
    elif isinstance(reply, list):
        for item in reply:
            yield from _words(item)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


async def _fsync(link: Link) -> str:
    try:
        reply = await link.call("CONFIG", "GET", "appendfsync")
    except ReplyError:
        return ""  # not allowed to look
    return text(reply[1]) if reply else ""


def _facts(info: str) -> dict[str, str]:
    lines = (line.partition(":") for line in info.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in lines}

"""Why a model failed, and what that says about its next load: read from how it ended and from the server's own words.

Pure. The words are those of llama.cpp, vLLM, Python, shells, loaders and CUDA as they print them; what nobody knows is
taken for passing once, and for lasting when it happens again in the very same way.
"""

import re
import signal
from dataclasses import dataclass
from enum import StrEnum

FOREIGN_MIB = 256
"""Other processes that hold less of the device are not why a model did not fit."""
_KILLED = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})
"""Somebody ended it: the kernel for want of memory, or an operator."""
_NOT_EXECUTED = frozenset({126, 127})
"""A shell's word for: cannot be executed, not found."""

_OF_THE_HOST = re.compile(
    r"address already in use|couldn't bind|(failed|unable) to bind|no space left on device|disk quota exceeded"
    r"|too many open files|resource temporarily unavailable|cannot fork|text file busy|input/output error"
    r"|stale file handle"
)
_OF_MEMORY = re.compile(
    r"out of memory|out_of_memory|outofmemory|out of device memory|erroroutofdevicememory|memoryallocation"
    r"|cudamalloc failed|hipmalloc failed|(failed|unable|cannot) to allocate|cannot allocate memory"
    r"|requires more system memory"
    r"|insufficient (device |gpu )?memory|not enough (free |gpu |device )?memory|no available memory"
    r"|bad_alloc"
)
_OF_THE_NETWORK = re.compile(
    r"connection (timed out|reset|refused|aborted)|read timed out|name resolution|network is unreachable"
)
_LASTING = re.compile(
    r"no such file|not a directory|is a directory|permission denied|exec format error|command not found|can't open file"
    r"|(cannot|can't|could not|failed to|unable to) (open|find|read|stat|locate)|does not exist|file not found"
    r"|not a local folder|repository not found|gated repo|invalid (argument|option|magic|value|choice|model|file)"
    r"|(unrecogni[sz]ed|unknown|unexpected|illegal|bad) (argument|option|flag|parameter|model architecture)"
    r"|(arguments?|options?) (are|is) required|requires an argument|expected (one|an|a) argument|not defined: -|usage:"
    r"|modulenotfounderror|no module named|importerror|syntaxerror|error while loading shared libraries|corrupt"
    r"|unsupported (model|architecture|file|format|quant)|architecture.{0,60}not supported|file bounds"
)


class Failing(StrEnum):
    """What a failure tells about the next load; the wire words of ``schemas.messages.FailureKind``."""

    PERMANENT = "permanent"
    PASSING = "passing"
    ROOM = "room"
    HOST = "host"
    USELESS = "useless"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnd:
    """How a server's main process ended."""

    status: int | None = None
    """As of ``waitstatus_to_exitcode``: negative for a signal; None: nobody saw it."""
    told: str = ""
    """In words, where there is no status."""

    def __str__(self) -> str:
        if self.status is None:
            return self.told
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        return f"exited with status {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What else there was when it failed."""

    neighbours: tuple[str, ...] = ()
    """Other models that are ready on the same device."""
    foreign_mib: int = 0
    """Held on the device by processes that are not ours."""
    again: bool = False
    """Did the load before this one end in the very same way, with nothing changed in between?"""
    alone_too: bool = False
    """And one of those without any other model beside it? Then room is not what it wants."""


def of_a_death(death: ProcessEnd, words: str, around: Around) -> Failing:
    """A server that died while it loaded.

    1. The host's doing, whoever else is there.
    2. Out of memory.
    3. It ended by itself, and names what no second try can mend: arguments, files, libraries, the model itself.
    4. The network was away: that passes, however often.
    5. Beside other models: with more room it may live, unless it ended so alone as well.
    6. Unexplained: passing once, lasting when it comes again; unless somebody killed it.
    """
    said = words.lower()
    if _OF_THE_HOST.search(said):  # 1
        return Failing.HOST
    if _OF_MEMORY.search(said):  # 2
        return of_no_room(around)
    by_itself = death.status is not None and death.status >= 0
    if by_itself and (death.status in _NOT_EXECUTED or _LASTING.search(said)):  # 3
        return Failing.PERMANENT
    if _OF_THE_NETWORK.search(said):  # 4
        return Failing.PASSING
    if around.neighbours and not around.alone_too:  # 5
        return Failing.ROOM
    known = death.status is not None and death.status not in _KILLED
    return Failing.PERMANENT if known and around.again else Failing.PASSING  # 6


def of_no_output(words: str, around: Around) -> Failing:
    """A server that says it is ready and gives no first token, or no vector: by what it answered."""
    if _OF_MEMORY.search(words.lower()):
        return of_no_room(around)
    if around.neighbours and not around.alone_too:
        return Failing.ROOM
    return Failing.PERMANENT if around.again else Failing.PASSING


def of_words(words: str) -> Failing:
    """Judge what a server that loads when asked said about a load it refused; ``ROOM``: for want of memory."""
    said = words.lower()
    if _OF_THE_HOST.search(said):
        return Failing.HOST
    if _OF_MEMORY.search(said):
        return Failing.ROOM
    return Failing.PERMANENT if _LASTING.search(said) else Failing.PASSING


def of_a_fall(words: str, around: Around, otherwise: Failing) -> Failing:
    """A server that was ready and is no more, or of no more use: for want of memory where it says so beside others."""
    crowded = around.neighbours or around.foreign_mib >= FOREIGN_MIB
    return Failing.ROOM if crowded and _OF_MEMORY.search(words.lower()) else otherwise


def of_no_room(around: Around) -> Failing:
    """Beside our own models: make room. Beside somebody else's: wait. Alone with the device it never fits."""
    if around.neighbours and not around.alone_too:
        return Failing.ROOM
    return Failing.HOST if around.foreign_mib >= FOREIGN_MIB else Failing.PERMANENT


class Endings:
    """How the last load of each model ended in this life of the worker."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, str]] = {}
        self._alone: set[str] = set()

    @property
    def models(self) -> frozenset[str]:
        """Those whose last load failed."""
        return frozenset(self._last)

    def note(self, model: str, how: str, stamp: str, neighbours: tuple[str, ...], foreign_mib: int) -> Around:
        """A load ended so beside these; says what that has in common with the loads before it."""
        again = self._last.get(model) == (how, stamp)
        alone_too = again and model in self._alone
        self._last[model] = how, stamp
        if not alone_too:
            self._alone.discard(model)
        if not neighbours:
            self._alone.add(model)
        return Around(neighbours=neighbours, foreign_mib=foreign_mib, again=again, alone_too=alone_too)

    def forget(self, model: str) -> None:
        """Forget how earlier loads of a model ended, for one has succeeded."""
        self._last.pop(model, None)
        self._alone.discard(model)

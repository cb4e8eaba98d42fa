"""Is a server that was ready still alive, and of any use: it is watched, and proved when somebody doubts it."""

import asyncio
from collections.abc import Awaitable, Callable

from gpu_worker.host.listeners import StrangerError
from gpu_worker.slot.probe import ProbeAnswer, ProbeError, ProbeSilentError, ProbeTarget, ask
from gpu_worker.slot.smallest_request import chat_request, smallest_request

IDLE_SHARE = 0.02
"""Of the time in which it owed a token: a server whose processes worked less than this did nothing."""
SECOND_TRY_S = 1.0
"""An error is an answer; a server is asked once more after this before it is given up."""
NOT_ABOUT_THE_MODEL = frozenset({501, 503})
"""Busy, or not that kind of question."""


async def wait_unresponsive(target: ProbeTarget, *, interval_s: float, timeout_s: float, failures: int) -> str:
    """Probe a ready server until it has failed to answer so many times in a row; answers what went wrong.

    A hung server is noticed after at most ``failures * (interval_s + timeout_s)`` seconds, a stranger in its place at
    the next probe.
    """
    missed = 0
    while True:
        await asyncio.sleep(interval_s)
        try:
            answer = await ask(target, "GET", target.health_path, timeout_s=timeout_s)
            trouble = "" if answer.status == 200 else f"health says {answer.status}"
        except StrangerError as error:
            return str(error)
        except ProbeError as error:
            trouble = str(error)
        missed = missed + 1 if trouble else 0
        if missed >= failures:
            return trouble


async def find_useless(target: ProbeTarget, *, patience_s: float, worked_s: Callable[[], float | None]) -> str:
    """Ask a server that is doubted for one token; answers why it is of no use, or nothing where that is not proved.

    1. An answer below 500, or one about something else than the model: it is alive.
    2. An error, or no answer that is one, and so in another way a moment later: it serves nobody.
    3. Silence, and its processes did next to nothing meanwhile: it hangs.
    4. Silence, and they work, or nobody can tell: it may be busy with somebody's long request. Nothing is proved.

    Args:
        target: The server.
        patience_s: For the token, seconds.
        worked_s: Processor time of its processes so far, seconds; None where nobody can tell.
    """
    began_s = worked_s()
    try:
        trouble = await _trouble_with(_usual_way(target), target, patience_s)
        if trouble:
            await asyncio.sleep(SECOND_TRY_S)
            trouble = await _trouble_with(smallest_request, target, patience_s)  # 1, 2
    except ProbeSilentError:
        ended_s = worked_s()
        if began_s is None or ended_s is None or ended_s - began_s >= IDLE_SHARE * patience_s:  # 4
            return ""
        return f"no token within {patience_s:g} s, and its processes did nothing meanwhile"  # 3
    except StrangerError as error:
        return str(error)
    return trouble


Way = Callable[[ProbeTarget, float], Awaitable[ProbeAnswer]]


def _usual_way(target: ProbeTarget) -> Way:
    """How clients ask this kind of model; the probe of readiness goes the cheapest way."""
    return chat_request if target.kind == "chat" else smallest_request


async def _trouble_with(way: Way, target: ProbeTarget, patience_s: float) -> str:
    try:
        answer = await way(target, patience_s)
    except ProbeSilentError:
        raise
    except ProbeError as error:
        return str(error)
    if answer.status < 500 or answer.status in NOT_ABOUT_THE_MODEL:
        return ""
    return f"it answers {answer.status} to everything: {answer.words()}"

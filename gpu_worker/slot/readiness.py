"""Is this model server ready: asked of the server itself while it loads.

Rule: ready = the health endpoint answers 200 *and* ``/v1/models`` lists the right name *and* the server has generated
one token (an embedding model: one vector; a reranker: one ranking) for a bearer of the generation key. A server can be
healthy and crash at its first decode.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from gpu_worker.host.listeners import StrangerError
from gpu_worker.slot import clock
from gpu_worker.slot.probe import ProbeError, ProbeTarget, ask
from gpu_worker.slot.smallest_request import has_output, missing_output, smallest_request

FIRST_POLL_S = 0.01
SLOWEST_POLL_S = 0.5
POLL_SHARE = 0.02
"""Polls are this share of the elapsed time apart: noticing late costs at most 2 % of a load."""
REQUEST_TIMEOUT_S = 5.0


class NotReadyError(Exception):
    """The server will not become ready; the message is for the report."""


class WrongServerError(NotReadyError):
    """It offers another model, or does not take the key it was started with: so it will the next time."""


class NoOutputError(NotReadyError):
    """It says it is ready and gives no first token; ``words`` is what it said instead."""

    def __init__(self, message: str, words: str = "") -> None:
        super().__init__(f"{message}: {words}" if words else message)
        self.words = words


class StrangerThereError(NotReadyError):
    """Somebody else answers on its port."""


async def wait_ready(target: ProbeTarget, *, timeout_s: float, on_poll: Callable[[], None]) -> None:
    """Return when the server is ready in all three senses.

    Args:
        target: The server that was just started.
        timeout_s: Of the whole load, seconds.
        on_poll: Called after every unsuccessful poll: the moment to look at the progress.

    Raises:
        NotReadyError: The time is up, or the server is healthy but wrong.
    """
    started_s = clock.now_s()
    try:
        async with asyncio.timeout(timeout_s):
            while not await _healthy(target):
                on_poll()
                elapsed_s = clock.now_s() - started_s
                await asyncio.sleep(min(SLOWEST_POLL_S, max(FIRST_POLL_S, POLL_SHARE * elapsed_s)))
            await _prove(target, timeout_s)
    except TimeoutError:
        raise NotReadyError(f"load_timeout: not ready after {timeout_s:g} s") from None
    except StrangerError as error:
        raise StrangerThereError(f"port_taken: {error}") from error
    except ProbeError as error:
        raise NoOutputError(f"not_ready: healthy, but {error}") from error


async def _healthy(target: ProbeTarget) -> bool:
    try:
        answer = await ask(target, "GET", target.health_path, timeout_s=REQUEST_TIMEOUT_S)
    except ProbeError:
        return False
    return answer.status == 200


async def _prove(target: ProbeTarget, timeout_s: float) -> None:
    """The right name, then the first answer."""
    answer = await ask(target, "GET", "/v1/models", timeout_s=REQUEST_TIMEOUT_S)
    if answer.status in {401, 403}:
        raise WrongServerError("key_refused: the server does not take the key that it was started with")
    names = _names(answer.json())
    if target.served_name not in names:
        raise WrongServerError(f"wrong_model: the server offers {', '.join(sorted(names)) or 'nothing'}")
    answer = await smallest_request(target, timeout_s)
    if not has_output(target, answer):
        what = missing_output(target)
        raise NoOutputError(f"{what}: status {answer.status}", answer.words() if answer.status != 200 else "")


def _names(models: Any) -> set[str]:
    entries = models.get("data", []) if isinstance(models, dict) else []
    return {str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry}

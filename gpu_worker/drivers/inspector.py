"""Looks at programs and files of the whole catalogue, at the start and now and then: what is wrong, how much there is.

Rule: what can be known without a load is known without one. Looking is done in a thread, one at a time, which nobody
waits for at the end: a file system that hangs costs a thread and old knowledge, not the loop and not the exit.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from gpu_worker.drivers.load_prior import LoadPriors
from gpu_worker.drivers.port import Recipe, RecipeInspection

LOOK_S = 2.0
FIRST_LOOK_S = 5.0
"""The first report waits for the first look, but no longer than this."""
UNKNOWN = RecipeInspection()

log = logging.getLogger(__name__)


class Inspector:
    """The catalogue of one worker, as last seen."""

    def __init__(self, inspect: Callable[[Recipe], RecipeInspection], recipes: Sequence[Recipe]) -> None:
        """``inspect`` asks the model's driver; called in a thread."""
        self._ask = inspect
        self._recipes = tuple(recipes)
        self._seen: Mapping[str, RecipeInspection] = {}
        self._looking: asyncio.Future[Mapping[str, RecipeInspection]] | None = None
        self.listeners: list[Callable[[], None]] = []
        """Called when something has changed."""
        self.is_loading: Callable[[], bool] = lambda: False
        """Whether a load needs the disks now; asked in a thread."""
        self._priors = LoadPriors()

    def of(self, model: str) -> RecipeInspection:
        """What was last seen of a model."""
        return self._seen.get(model, UNKNOWN)

    def prior_ms(self, model: str) -> int:
        """How long a load of it should take, from its files and their disk; 0: nothing to go by."""
        return self._priors.prior_ms(self.of(model).weights)

    @property
    def troubled(self) -> Mapping[str, RecipeInspection]:
        """Models that cannot be started as things are."""
        return {model: seen for model, seen in self._seen.items() if seen.trouble}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look(LOOK_S)

    async def look(self, within_s: float = FIRST_LOOK_S) -> None:
        """Look once; what is not seen within that time is seen by a later look."""
        if self._looking is None:
            self._looking = self._begin()
        looking = self._looking
        await asyncio.wait({looking}, timeout=within_s)
        if looking.done():
            self._looking = None
            self._take_in(looking.result())

    def _begin(self) -> asyncio.Future[Mapping[str, RecipeInspection]]:
        loop = asyncio.get_running_loop()
        seen: asyncio.Future[Mapping[str, RecipeInspection]] = loop.create_future()
        is_first = not self._seen  # somebody waits for that one: disks are measured later

        def tell(found: Mapping[str, RecipeInspection]) -> None:
            if not seen.done():
                seen.set_result(found)

        def look() -> None:
            found = {recipe.model: self._inspect(recipe) for recipe in self._recipes}
            if not is_first:
                self._priors.measure_one((one.weights for one in found.values() if one.weights), self.is_loading)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
                loop.call_soon_threadsafe(tell, found)

        threading.Thread(target=look, name="inspector", daemon=True).start()
        return seen

    def _inspect(self, recipe: Recipe) -> RecipeInspection:
        try:
            return self._ask(recipe)
        except Exception:  # a look must not cost the worker its life
            log.exception("inspection_failed", extra={"model": recipe.model})
            return UNKNOWN

    def _take_in(self, seen: Mapping[str, RecipeInspection]) -> None:
        before, self._seen = self._seen, seen
        for model, inspection in seen.items():
            told = before.get(model, UNKNOWN).trouble
            if inspection.trouble and inspection.trouble != told:
                log.warning("model_unsound", extra={"model": model, "reason": inspection.trouble})
            elif told and not inspection.trouble:
                log.info("model_sound", extra={"model": model})
        if seen != before:
            for listener in self.listeners:
                listener()

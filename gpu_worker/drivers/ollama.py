"""The ``ollama`` driver: an Ollama that runs already loads and unloads models when asked.

``POST /api/generate`` (an embedding model: ``/api/embed``) without a prompt loads, ``keep_alive`` -1 keeps it, 0
unloads; ``GET /api/ps`` lists what is loaded, and what is being loaded. An unload goes to ``/api/generate`` for every
kind: there it never loads first. Nothing is said here about the context's length: requests of OpenAI's form cannot
repeat it, so Ollama would load the model anew at the first one.

Source: Ollama, API reference, "Load a model", "Unload a model", "Generate Embeddings", "List Running Models".
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gpu_worker.drivers.failing import Failing, of_words
from gpu_worker.drivers.hosted import (
    LOAD_TIMEOUT_S,
    NOT_LOADED,
    HostedApi,
    HostedDriver,
    HostedSection,
    ModelStatus,
)
from gpu_worker.drivers.port import Driver, DriverEntry, DriverSettings, LoadError, Recipe, RecipeInspection
from gpu_worker.host.http_calls import CallAnswer, CallError, call_now

MIB = 1 << 20
FOR_EVER, AT_ONCE = -1, 0
INSPECT_TIMEOUT_S = 1.0


class OllamaSection(HostedSection):
    """``[model.ollama]``; the model is what ``served_name`` calls it, with its tag."""


class OllamaApi(HostedApi):
    """One model of an Ollama."""

    health_path = "/api/version"

    async def look(self) -> ModelStatus:
        """See ``HostedApi``, as for all that follows."""
        answer = await self.ask("GET", "/api/ps")
        models = _models_in(answer)
        if models is None:
            raise CallError(f"GET {self.section.url}/api/ps: status {answer.status}: {answer.words()}")
        listed = next((one for one in models if _is(one, self.recipe.served_name)), None)
        if listed is None:
            return NOT_LOADED
        return ModelStatus(is_loaded=True, mib=_number(listed.get("size_vram")) // MIB)

    async def load(self, seen: ModelStatus) -> None:  # noqa: ARG002 - what is loaded is told to stay by the same words
        """Answers when it is loaded."""
        path = "/api/embed" if self.recipe.kind == "embedding" else "/api/generate"
        body = {"model": self.recipe.served_name, "keep_alive": FOR_EVER, "stream": False}
        answer = await self.ask("POST", path, body=body, timeout_s=LOAD_TIMEOUT_S)
        if not answer.good:
            raise _refusal(answer, self.recipe.served_name)

    async def unload(self, seen: ModelStatus) -> None:  # noqa: ARG002 - it is called by its name
        """Answers at once; a model at work goes when it has answered."""
        body = {"model": self.recipe.served_name, "keep_alive": AT_ONCE, "stream": False}
        answer = await self.ask("POST", "/api/generate", body=body)
        if not answer.good:
            raise CallError(f"unload of {self.recipe.served_name}: status {answer.status}: {answer.words()}")


def _refusal(answer: CallAnswer, name: str) -> LoadError:
    """What Ollama said about a load, and what that tells about the next one."""
    said = f"ollama: {answer.words() or f'status {answer.status}'}"
    if answer.status == 404:
        return LoadError(f"{said}; pull it with: ollama pull {name}", Failing.PERMANENT)
    if answer.status in {429, 503}:  # its queue is full
        return LoadError(said, Failing.PASSING)
    if answer.status < 500:
        return LoadError(said, Failing.PERMANENT)
    return LoadError(said, of_words(said))


def _models_in(answer: CallAnswer) -> list[Mapping[str, Any]] | None:
    """Read the list of an answer; None where it is none. Go writes an empty one as null."""
    told = answer.json() if answer.good else None
    models = (told.get("models") or []) if isinstance(told, dict) and "models" in told else None
    return [one for one in models if isinstance(one, dict)] if isinstance(models, list) else None


def _is(listed: Mapping[str, Any], name: str) -> bool:
    return whole_name(name) in {listed.get("name"), listed.get("model")}


def whole_name(name: str) -> str:
    """Name a model as Ollama lists it: without a tag it is the latest."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _number(told: object) -> int:
    return int(told) if isinstance(told, int | float) else 0


class OllamaDriver(HostedDriver):
    """Knows besides what is pulled."""

    def __init__(self, settings: DriverSettings) -> None:
        super().__init__("ollama", settings, OllamaSection, OllamaApi)

    def inspect(self, recipe: Recipe) -> RecipeInspection:
        """Look at what is pulled, where somebody answers: one that is not has to be, and then is another one."""
        seen = super().inspect(recipe)
        assert isinstance(recipe.own, OllamaSection)
        if seen.trouble:
            return seen
        if (whole := whole_name(recipe.served_name)) != recipe.served_name:
            told = f'Ollama lists it as "{whole}"; write served_name = "{whole}"'
            return replace(seen, trouble=told)
        try:
            answer = call_now(
                recipe.own.url, "GET", "/api/tags", bearer=recipe.own.bearer(), timeout_s=INSPECT_TIMEOUT_S
            )
        except CallError:
            return seen
        pulled = _models_in(answer)
        if pulled is None:
            return seen
        digests = [str(one.get("digest")) for one in pulled if _is(one, recipe.served_name)]
        stamp = hashlib.sha256(f"{seen.stamp} {digests}".encode()).hexdigest()[:16]
        trouble = "" if digests else f"not pulled; pull it with: ollama pull {recipe.served_name}"
        return replace(seen, stamp=stamp, trouble=trouble)


def _make(settings: DriverSettings) -> Driver:
    return OllamaDriver(settings)


DRIVER = DriverEntry(make=_make, section=OllamaSection)

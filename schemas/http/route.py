"""Bodies of ``POST /route``: a request that is not served, and where it would go."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.http.api import Body, Seconds

PATHS = (
    "/chat/completions", "/completions", "/responses", "/embeddings", "/rerank", "/audio/speech",
    "/audio/transcriptions", "/audio/translations", "/images/generations", "/images/edits", "/images/variations",
    "/messages", "/messages/count_tokens",
)  # fmt: skip
"""Addresses below ``/v1`` that a request can be looked at for."""
PATH_PATTERN = rf"^(/v1)?({'|'.join(PATHS)})$"
RouteWord = Literal["local", "cloud", "inside", "refused"]


class RouteRequest(Body):
    """A request to ``/v1`` as it would be sent."""

    body: dict[str, Any]
    """Body of the request, as the address takes it."""
    path: Annotated[str, StringConstraints(pattern=PATH_PATTERN)] | None = None
    """Address of the request, such as ``/v1/messages``. Null: the one that the body looks like."""
    headers: dict[str, str] = Field(default={}, max_length=256)
    """Headers of the request. Those count that ``/v1`` reads; credentials do not."""
    key: str | None = Field(default=None, max_length=64)
    """Name of the API key that would send it; another's than the caller's needs ``observe``."""


class RouteBody(BaseModel):
    """The same without anything around it: a body of ``/v1``, taken for what it looks like."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    model: str
    """The name of the model that is asked for."""


class RouteChoice(Body):
    """One candidate, in the order in which they would be tried."""

    model: str
    route: RouteWord
    wait_seconds: Seconds | None
    """How long until the lease, or until an upstream answers; null: not known."""
    late: bool
    """It would miss the deadline."""
    busy: bool
    """Others use its GPU, or the wait for it is longer than it may be."""
    reserve: float
    """How much of the budget would be put aside for it, in the currency of the prices."""
    takes_seconds: Seconds | None
    """How long until the answer is whole, where the name prefers the fastest; null: not known, or not asked for."""
    first_token_seconds: Seconds | None
    """How long until its first token, as this broker has learned lately; null: not known."""
    tokens_per_second: float | None
    """How many tokens per second follow the first one, as this broker has learned lately; null: not known."""


class RoutePassedOver(Body):
    """A candidate that may not or cannot serve it."""

    model: str
    why: str
    """``private``, ``kind``, ``context``, ``tools``, ``structured``, ``vision``, ``quantisation``, ``class``, ``down``,
    ``breaker``, ``budget``."""


class RouteAnswer(Body):
    """Where a request would go, and why."""

    model: str | None = None
    """The name asked for; the default, where the body names none. Null: the body cannot be read."""
    path: str
    """The address it was taken for."""
    session: str | None = None
    """The conversation that it would belong to."""
    route: RouteWord
    """Where it would go first: the word of ``x-hotseat-route``."""
    reason: str
    """Why it would go there: the word of ``x-hotseat-reason``, or the code of the refusal."""
    serves: str | None = None
    """The name that would be asked first; null: it would be refused."""
    private: str | None = None
    """Why it may not leave; null: it may, or nothing can leave here."""
    status: Annotated[int, Field(ge=100, le=599)]
    """What its client would be answered before any model server is asked: 200, or the refusal's status."""
    message: str | None = None
    """What the client would be told if it were refused; null: it would not be."""
    task: str | None = None
    """What it is for; null: it shows no task."""
    task_from: Literal["header", "key", "alias", "request"] = "request"
    """Who says what it is for: a header, the API key, the name asked for, or the request by its looks."""
    effort: str | None = None
    """How hard its model is to think; null: the request does not say."""
    tool_calls: int = 0
    """How many calls of tools were made in the conversation so far."""
    tools: int = 0
    schema_depth: int = 0
    """How many objects and lists of the answer's schema are within one another; 0: there is no schema."""
    prompt_tokens: int = 0
    """How many tokens the prompt has, counted so that it is rather too many."""
    rule: int | None = None
    """Number of the name's rule that holds, from 1; null: none."""
    choices: tuple[RouteChoice, ...] = ()
    passed_over: tuple[RoutePassedOver, ...] = ()

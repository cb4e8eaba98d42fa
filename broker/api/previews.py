"""``POST /route``: where a request would go, and why, on the pool as it is now; nothing is served, asked or noted.

Rule: a key sees what its own requests would become, and of candidates only those that it may use; for another key's
requests, and all candidates, it needs ``observe``.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from starlette.types import Receive, Scope

from broker.access.principals import NotAllowedError, Principal
from broker.access.principals import Scope as KeyScope
from broker.api.leases import HotPath
from broker.api.services import Services
from broker.core.errors import HotseatError
from broker.gateway.exchange.call import Came
from broker.gateway.plans.incapable import may_use
from broker.gateway.plans.preview import Foreseen, Preview
from broker.gateway.requests.bodies import RequestBody
from broker.protocol.client_side import REQUEST
from broker.protocol.endpoints import ENDPOINTS, ApiEndpoint
from broker.protocol.error_bodies import ClientError, client_error_of
from broker.protocol.errors import InvalidError, MalformedError, NotFoundError
from broker.protocol.headers import by_name
from broker.protocol.limits import query_of, require_json
from broker.protocol.problems import Reply
from broker.protocol.unpacking import codings_of
from broker.routing.catalogue import MILLION, NameTable
from broker.routing.decision import Choice
from broker.routing.request.request import RequestKind
from broker.routing.speeds import Speed
from schemas.http.route import RouteAnswer, RouteChoice, RoutePassedOver

PATH = "/route"
BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}
MOST_HEADERS = 256
CREDENTIALS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
"""Headers that are never read; the field ``key`` says whose request it is."""
_OF_RESPONSES = frozenset({"instructions", "max_output_tokens", "reasoning", "previous_response_id", "text", "tools"})
_OF_ANTHROPIC = frozenset({"system", "stop_sequences", "thinking"})


class _Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /route``: twin of ``schemas.http.route.RouteRequest``, which explains the fields."""

    body: msgspec.Raw
    path: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    key: str | None = None


_asked = msgspec.json.Decoder(_Asked)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class PreviewRoutes:
    """The endpoint of ``POST /route``."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._table = services.table

    def endpoint(self) -> HotPath:
        """Return the ASGI endpoint for ``/route``."""
        return HotPath(PATH, {"POST": self.show}, self._services)

    async def show(self, scope: Scope, receive: Receive) -> Reply:
        """Answer ``POST /route``: tell where the request in its body would go."""
        caller = self._services.authenticator.caller(scope)
        if not (caller.may(KeyScope.LEASE) or caller.may(KeyScope.OBSERVE)):
            raise NotAllowedError(f"key {caller.name!r} lacks the scopes 'observe' and 'lease'")
        query_of(scope, frozenset())
        require_json(scope)
        headers, room = by_name(scope["headers"]), self._services.gateway.context.room
        length = headers.get(b"content-length", b"")
        room.enter(int(length[:12]) if length.isdigit() else None)
        body = RequestBody(room)
        try:
            data = await body.read(receive)
            codings = codings_of(headers.get(b"content-encoding", b""))
            data = await body.unpack(codings, scope["extensions"][REQUEST]) if codings else data
            return await self._answer(caller, data, scope)
        finally:
            body.free()

    async def _answer(self, caller: Principal, data: bytes, scope: Scope) -> Reply:
        asked = _read(data)
        sender = self._sender(caller, asked.key)
        raw = _object_of(asked.body)
        headers = _headers_of(asked.headers)
        client = scope.get("client")
        endpoint = self._endpoint(asked.path, raw, headers)
        came = Came(
            caller=sender,
            endpoint=endpoint,
            target=endpoint.path,
            headers=headers,
            body=raw,
            at_s=asyncio.get_running_loop().time(),
            address=client[0] if client else "",
        )
        preview = self._services.preview
        try:
            foreseen = await preview.of(came)
        except HotseatError as error:
            return _reply(_unreadable(came, client_error_of(error)))
        seen = None if caller.may(KeyScope.OBSERVE) else sender
        return _reply(answer_of(foreseen, preview, seen))

    def _sender(self, caller: Principal, name: str | None) -> Principal:
        if name is None or name == caller.name:
            return caller
        if not caller.may(KeyScope.OBSERVE):
            raise NotAllowedError(f"key {caller.name!r} lacks the scope 'observe' to look at another key's requests")
        sender = self._services.authenticator.named(name)
        if sender is None:
            raise NotFoundError(f"there is no [[key]] {name!r}")
        return sender

    def _endpoint(self, path: str | None, body: bytes, headers: Mapping[bytes, bytes]) -> ApiEndpoint:
        if path is None:
            return BY_PATH[looks_like(_fields.decode(body), headers, self._table)]
        found = BY_PATH.get(path.removeprefix("/v1"))
        if found is None:
            raise InvalidError(f"path: {path!r} is none of {', '.join('/v1' + known for known in BY_PATH)}")
        return found


def _read(data: bytes) -> _Asked:
    """Read the description of a request, or a request's body that was sent alone."""
    try:
        fields = _fields.decode(data)
        if "body" in fields:
            return _asked.decode(data)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{error}; see GET /openapi.json for the shape") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedError(f"the body is not JSON we can read: {error}") from None
    if not bytes(fields.get("model", b"")).startswith(b'"'):
        raise InvalidError(
            "send a body of /v1 in 'body', beside its 'path' and 'headers'; or alone, if it names a model"
        )
    return _Asked(body=msgspec.Raw(data))


def _object_of(raw: msgspec.Raw) -> bytes:
    """Return a body as bytes, once it is known to be a JSON object."""
    data = bytes(raw)
    try:
        _fields.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidError(f"body: it must be a JSON object: {error}") from None
    return data


def _headers_of(given: Mapping[str, str]) -> dict[bytes, bytes]:
    if len(given) > MOST_HEADERS:
        raise InvalidError(f"headers: {MOST_HEADERS} at most")
    kept = {name.lower(): value for name, value in given.items() if name.lower() not in CREDENTIALS}
    return {name.encode(): value.strip().encode() for name, value in kept.items() if name != "content-type"}


def looks_like(fields: Mapping[str, msgspec.Raw], headers: Mapping[bytes, bytes], table: NameTable) -> str:
    """Guess the address at which a body was probably sent."""
    if "messages" in fields:
        is_anthropics = b"anthropic-version" in headers or fields.keys() & _OF_ANTHROPIC
        return "/messages" if is_anthropics else "/chat/completions"
    if "prompt" in fields:
        return "/completions"
    if "input" in fields:
        if fields.keys() & _OF_RESPONSES or bytes(fields["input"]).lstrip()[:2].startswith(b"[{"):
            return "/responses"
        return "/embeddings" if "encoding_format" in fields or _gives_vectors(fields, table) else "/responses"
    return "/rerank" if "documents" in fields else "/chat/completions"


def _gives_vectors(fields: Mapping[str, msgspec.Raw], table: NameTable) -> bool:
    name: Any = msgspec.json.decode(fields["model"]) if "model" in fields else table.default
    entry = table.find(name) if isinstance(name, str) else None
    kinds = [one.abilities.kinds for one in entry.candidates] if entry else []
    return any(found is not None and RequestKind.EMBEDDINGS in found for found in kinds)


def _reply(answer: RouteAnswer) -> Reply:
    body = answer.model_dump_json(by_alias=True).encode()
    length = (b"content-length", b"%d" % len(body))
    return Reply(200, body, [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), length])


def _unreadable(came: Came, trouble: ClientError) -> RouteAnswer:
    """Answer for a request that is refused before anybody knows what it asks for."""
    return RouteAnswer(
        path=f"/v1{came.endpoint.path}",
        route="refused",
        reason=trouble.told_code,
        status=trouble.status,
        message=trouble.told_message(),
    )


def answer_of(foreseen: Foreseen, preview: Preview, sender: Principal | None) -> RouteAnswer:
    """Turn what was foreseen into the answer; for a ``sender`` alone it names only candidates they may use."""
    content, trouble, nature = foreseen.request.content.read(), foreseen.trouble, foreseen.nature
    passed = [one for one in foreseen.decision.passed_over if sender is None or may_use(sender, one.name)]
    told: Literal["header", "key", "alias", "request"] = nature.told.value
    return RouteAnswer(
        model=foreseen.request.name,
        path=f"/v1{foreseen.call.endpoint.path}",
        session=foreseen.call.identity.session,
        route=foreseen.route.value,
        reason=str(foreseen.reason),
        serves=foreseen.choices[0].model if foreseen.choices else None,
        private=foreseen.decision.private,
        status=200 if trouble is None else trouble.status,
        message=None if trouble is None else trouble.told_message(),
        task=nature.task,
        task_from=told,
        effort=nature.effort,
        tool_calls=nature.tool_calls,
        tools=content.tools,
        schema_depth=nature.schema_depth,
        prompt_tokens=content.prompt_tokens,
        rule=foreseen.decision.rule or None,
        choices=tuple(_choice(one, preview.speed_of(one.model) or Speed()) for one in foreseen.choices),
        passed_over=tuple(RoutePassedOver(model=one.name, why=one.why) for one in passed),
    )


def _choice(choice: Choice, speed: Speed) -> RouteChoice:
    return RouteChoice(
        model=choice.model,
        route=choice.route.value,
        wait_seconds=_rounded(choice.wait_s),
        late=choice.late,
        busy=choice.busy,
        reserve=choice.reserve_micro / MILLION,
        takes_seconds=_rounded(choice.takes_s),
        first_token_seconds=_rounded(speed.first_s),
        tokens_per_second=_rounded(speed.tokens_per_s),
    )


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)

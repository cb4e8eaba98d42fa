"""A request that is let in, until its last byte is out."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from starlette.types import Receive, Scope

from broker.access.principals import Principal
from broker.gateway.exchange.candidates import ServingPlan
from broker.gateway.exchange.progress import Progress
from broker.gateway.requests.bodies import RequestBody
from broker.protocol.client_side import REQUEST, ClientSide
from broker.protocol.endpoints import ApiEndpoint
from broker.protocol.errors import MalformedError


class Arrived(msgspec.Struct, frozen=True):
    """A request whose caller is known."""

    scope: Scope
    receive: Receive
    caller: Principal
    endpoint: ApiEndpoint

    @property
    def request_id(self) -> str:
        """As its client and the log know it."""
        found: str = self.scope["extensions"][REQUEST]["id"]
        return found

    @property
    def address(self) -> str:
        """The client's, without its port; empty where the server does not know it, as on a Unix socket."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def target(self) -> str:
        """Path below ``/v1``, with its query.

        Raises:
            MalformedError: The query is none.
        """
        raw = self.scope["query_string"]
        if not raw.isascii():
            raise MalformedError("the query cannot be read")
        return self.endpoint.path + ("?" + raw.decode("ascii") if raw else "")


@dataclass(slots=True, kw_only=True)
class Opened:
    """See above."""

    arrived: Arrived
    headers: dict[bytes, bytes]
    client: ClientSide
    when_gone: list[Callable[[], None]]
    """Called when there is nobody any more."""
    body: RequestBody
    started_s: float
    """Loop time."""
    progress: Progress | None = None
    """Once it is read."""
    plan: ServingPlan | None = None
    """Who may serve it."""
    model: str = ""
    """Whose answer it got, where that was another request's."""
    is_told_of: bool = False
    """Is it in the accounts already, as the generation that it began?"""

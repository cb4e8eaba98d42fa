"""The upstreams of one process: their addresses and keys, their connections, and what they are sent.

Rule: a client's credentials, cookies, query and own headers never leave; an upstream gets its own key and what its
protocol needs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from broker.accounting.answers import AnswerAccounts
from broker.gateway.cloud.breaker import Breakers
from broker.gateway.cloud.outgoing import outgoing
from broker.http_client.connection_pool import ConnectionPool, Request, Timing
from broker.protocol.headers import Headers
from broker.routing.catalogue import Cloud, Protocol

KEPT_BACK = frozenset(
    {b"alt-svc", b"openai-organization", b"openai-project", b"set-cookie", b"strict-transport-security"}
)
"""Of the upstream's: about its own connection and the operator's account."""
HARMLESS_QUERY = "?beta=true"
"""What Anthropic's SDK adds; no other query is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudServer:
    """One upstream."""

    name: str
    base_url: str
    api_key: str = field(repr=False)
    """Empty: it wants none."""
    protocol: Protocol = Protocol.OPENAI
    tries: int = 2
    timing: Timing = field(default_factory=Timing)
    betas: frozenset[bytes] = frozenset()
    """Words of ``anthropic-beta`` and ``openai-beta`` that pass beside the known ones."""

    def request(self, headers: Mapping[bytes, bytes], target: str, body: bytes, cloud: Cloud) -> Request:
        """A client's request as this upstream gets it.

        Args:
            headers: The client's.
            target: The client's path below ``/v1``, with its query.
            body: A JSON object.
            cloud: Whom it is for: its name there, and what is changed; every other field keeps its bytes.
        """
        fields = cloud.parameters.apply(msgspec.json.decode(body, type=dict[str, msgspec.Raw]), msgspec.Raw)
        fields["model"] = msgspec.Raw(msgspec.json.encode(cloud.remote_name))
        path, _, query = target.partition("?")
        return Request(
            method="POST",
            path=path + HARMLESS_QUERY if "?" + query == HARMLESS_QUERY else path,
            headers=self._headers(headers),
            body=msgspec.json.encode(fields),
        )

    def _headers(self, headers: Mapping[bytes, bytes]) -> Headers:
        passed = [*outgoing(headers, self.betas), (b"user-agent", b"hotseat")]
        if self.protocol is Protocol.ANTHROPIC and not any(name == b"anthropic-version" for name, _ in passed):
            passed.append((b"anthropic-version", b"2023-06-01"))
        if not self.api_key:
            return passed
        if self.protocol is Protocol.ANTHROPIC:
            return [*passed, (b"x-api-key", self.api_key.encode())]
        return [*passed, (b"authorization", b"Bearer " + self.api_key.encode())]


class Clouds:
    """All of them, with their breakers: every process finds out by itself whom it cannot reach."""

    def __init__(self, servers: Iterable[CloudServer], answers: AnswerAccounts, *, head_s: float) -> None:
        """``head_s`` as in ``GatewaySettings``."""
        self.answers = answers
        self.head_s = head_s
        self.servers = {server.name: server for server in servers}
        self.connections = {name: ConnectionPool(server.timing) for name, server in self.servers.items()}
        self.breakers = Breakers(self.servers)

    def close(self) -> None:
        """Close what is idle."""
        for connections in self.connections.values():
            connections.close()


def from_upstream(headers: Headers) -> Headers:
    """An upstream's headers, less those that are none of a client's business."""
    return [header for header in headers if header[0] not in KEPT_BACK]

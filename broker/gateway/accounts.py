"""Accounts of the data path: Prometheus series and one log line per request, never content."""

import logging

import msgspec
from prometheus_client import Counter, Histogram

from broker.daybook import Daybook
from broker.gateway.answer_accounts import AnswerAccounts
from broker.metrics import WAIT_BUCKETS, Metrics

log = logging.getLogger("hotseat.gateway")

FIRST_BYTE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request. Durations in seconds."""

    path: str
    model: str
    """Of the catalogue; empty where the client named none of it."""
    route: str
    reason: str
    outcome: str
    """``served``, ``client_gone``, or the code of what the client was told."""
    status: int
    """0: nothing was sent."""
    key: str
    lease_id: str
    waited_s: float
    """For the lease."""
    took_s: float
    first_byte_s: float | None
    """From the grant, or from the question to an upstream, to the first piece of the answer that is passed on."""
    sent: int
    """Bytes of the model server's."""
    retries: int
    answer: str = ""
    """What the last answer of a model server was worth (``broker.answers.verdict.Reason``); empty: there was none."""


class Accounts:
    """The data path's series, and its part of the day's report."""

    def __init__(self, metrics: Metrics, book: Daybook) -> None:
        self._book = book
        registry = metrics.registry
        self.answers = AnswerAccounts(registry, book)
        self._requests = Counter(
            "hotseat_gateway_requests",
            "Requests of /v1 by what became of them",
            ["path", "model", "route", "reason", "outcome"],
            registry=registry,
        )
        self._waits = Histogram(
            "hotseat_gateway_wait_seconds",
            "From a request to its lease",
            ["model"],
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._first_bytes = Histogram(
            "hotseat_gateway_first_byte_seconds",
            "From the lease, or the question to an upstream, to the first byte that is passed on",
            ["model"],
            buckets=FIRST_BYTE_BUCKETS,
            registry=registry,
        )
        self._retries = Counter(
            "hotseat_gateway_retries", "Requests tried again before their first byte", ["model"], registry=registry
        )
        self._children: dict[tuple[str, ...], Counter] = {}
        self._by_model: dict[str, tuple[Histogram, Histogram]] = {}

    def close(self, account: Account) -> None:
        """A request is over."""
        labels = (account.path, account.model, account.route, account.reason, account.outcome)
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._requests.labels(*labels)
        child.inc()
        self._book.count("requests", account.route, account.reason)
        self._book.count("outcomes", account.route, account.outcome)
        if account.model:
            self._measure(account)
        if account.retries:
            self._retries.labels(account.model).inc(account.retries)
            self._book.count("retries", account.model, by=account.retries)
        log.info("request_closed", extra=_fields(account))

    def _measure(self, account: Account) -> None:
        waits, first_bytes = self._series_of(account.model)
        if account.lease_id:
            waits.observe(account.waited_s)
            self._book.took("wait", account.model, seconds=account.waited_s)
        if account.first_byte_s is not None:
            first_bytes.observe(account.first_byte_s)
            self._book.took("firstByte", account.route, account.model, seconds=account.first_byte_s)

    def _series_of(self, model: str) -> tuple[Histogram, Histogram]:
        """A model's children, kept: looking one up takes longer than counting."""
        found = self._by_model.get(model)
        if found is None:
            found = (self._waits.labels(model), self._first_bytes.labels(model))
            self._by_model[model] = found
        return found


def _fields(account: Account) -> dict[str, object]:
    first = account.first_byte_s
    return {
        "path": account.path,
        "model": account.model,
        "route": account.route,
        "reason": account.reason,
        "outcome": account.outcome,
        "status": account.status,
        "key": account.key,
        "lease_id": account.lease_id,
        "waited_ms": round(account.waited_s * 1000),
        "first_byte_ms": -1 if first is None else round(first * 1000),
        "took_ms": round(account.took_s * 1000),
        "sent_bytes": account.sent,
        "retries": account.retries,
        "answer": account.answer,
    }

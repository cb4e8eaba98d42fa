"""The smallest request of each kind of model: one token, one vector, one ranking; and what counts as its answer."""

from typing import Any

from gpu_worker.slot.probe import ProbeAnswer, ProbeTarget, ask

_NOT_THERE = frozenset({404, 405, 501})


async def smallest_request(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    """Ask the cheapest question that this kind of model can answer."""
    return await _QUESTIONS.get(target.kind, _generate)(target, timeout_s)


async def _embed(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    body = {"model": target.served_name, "input": "a"}
    return await ask(target, "POST", "/v1/embeddings", body=body, timeout_s=timeout_s)


async def _rank(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    body = {"model": target.served_name, "query": "a", "documents": ["a"]}
    return await ask(target, "POST", "/v1/rerank", body=body, timeout_s=timeout_s)


async def _generate(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    """One token through the plain completion endpoint, which costs the least; through the chat where that is absent."""
    answer = await _complete(target, timeout_s)
    return await chat_request(target, timeout_s) if answer.status in _NOT_THERE and target.kind == "chat" else answer


async def _complete(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    body = {"model": target.served_name, "max_tokens": 1, "prompt": "a"}
    return await ask(target, "POST", "/v1/completions", body=body, timeout_s=timeout_s)


async def chat_request(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    """Ask for one token the way clients chat."""
    body = {"model": target.served_name, "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}
    return await ask(target, "POST", "/v1/chat/completions", body=body, timeout_s=timeout_s)


def has_output(target: ProbeTarget, answer: ProbeAnswer) -> bool:
    """Tell whether the answer holds what was asked for."""
    if answer.status != 200:
        return False
    return _SEEN.get(target.kind, _generated)(answer.json())


def _embedded(document: Any) -> bool:
    vectors = document.get("data") if isinstance(document, dict) else None
    return bool(vectors and vectors[0].get("embedding"))


def _ranked(document: Any) -> bool:
    ranks = document.get("results") if isinstance(document, dict) else None
    first = ranks[0] if isinstance(ranks, list) and ranks else None
    score = first.get("relevance_score") if isinstance(first, dict) else None
    return isinstance(score, int | float)


_QUESTIONS = {"embedding": _embed, "rerank": _rank}
_SEEN = {"embedding": _embedded, "rerank": _ranked}
_MISSING = {"embedding": "no_embedding", "rerank": "no_ranking"}


def _generated(document: Any) -> bool:
    """Whether a token was generated: counted by the server where it counts, seen in the text where not."""
    if not isinstance(document, dict) or not document.get("choices"):
        return False
    counted = (document.get("usage") or {}).get("completion_tokens")
    if counted is not None:
        return bool(counted)
    choice = document["choices"][0]
    return bool(choice.get("text") or (choice.get("message") or {}).get("content"))


def missing_output(target: ProbeTarget) -> str:
    """Return the report's word for an answer without output."""
    return _MISSING.get(target.kind, "no_token")

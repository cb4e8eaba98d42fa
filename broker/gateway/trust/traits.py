"""What a request is like, as far as that may be what kills a model's server: how long it is, and what is in it."""

import re
from dataclasses import dataclass

BYTES_PER_TOKEN = 4
"""How many bytes of text make a token, roughly."""

_MARKS = {
    "pictures": re.compile(rb'"(?<!\\")(?:image_url|input_image|image)"'),
    "sound": re.compile(
        rb'"(?<!\\")(?:input_audio|audio_url)"|filename="[^"]*\.(?:wav|mp3|ogg|flac|m4a|webm)"', re.IGNORECASE
    ),
    "a grammar or a schema": re.compile(
        rb'"(?<!\\")(?:grammar|json_schema|guided_\w+|structured_outputs|ebnf|regex|structural_tag)"\s*:'
    ),
    "several choices": re.compile(rb'"(?<!\\")(?:n|best_of)"\s*:\s*(?:[2-9]|\d{2})'),
    "token probabilities": re.compile(rb'"(?<!\\")(?:(?:top_|prompt_)?logprobs|n_probs)"\s*:\s*(?:true|[1-9])'),
    "tools": re.compile(rb'"(?<!\\")tools"\s*:\s*\[\s*\{'),
}  # fmt: skip
"""Marks that are looked for in the bytes, in this order; inside a text a quotation mark has a backslash.

Each begins with its mark, not with what may not stand before it: so whatever is no mark is skipped at once.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What one request is like, as far as that may kill a model's server."""

    size: int
    """Length of its body, bytes."""
    marks: tuple[str, ...] = ()
    """What is in it, in words, the rarest first; the last one is its address."""

    def words(self) -> str:
        """Tell people what the request was like."""
        tokens = round(self.size / BYTES_PER_TOKEN, -3) if self.size >= 4000 else self.size // BYTES_PER_TOKEN
        length = f"{self.size / 1000:.0f} kB, about {tokens:,.0f} tokens"
        return f"{length}, with {', '.join(self.marks[:-1])}" if self.marks[:-1] else length


def traits_of(path: str, body: bytes) -> Traits:
    """Look at a request. Costs about ten milliseconds per megabyte.

    Args:
        path: Below ``/v1``.
        body: As it came.
    """
    found = [name for name, pattern in _MARKS.items() if pattern.search(body)]
    return Traits(size=len(body), marks=(*found, f"calls of /v1{path}"))

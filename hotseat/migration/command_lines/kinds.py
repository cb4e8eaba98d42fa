"""What a model does, where nothing but names tells it."""

import re
from collections.abc import Iterable

EVERY = "chat, completion, embedding, rerank"
_RANKS = re.compile(r"rerank", re.IGNORECASE)
_EMBEDS = re.compile(r"embed|(^|[/_-])(bge|e5|gte|voyage)-|minilm|text-similarity", re.IGNORECASE)
_OTHER = re.compile(
    r"whisper|(^|[/_-])tts\b|dall-?e|gpt-image|imagen|stable-diffusion|flux|sdxl|veo-|sora|transcri|speech|moderation",
    re.IGNORECASE,
)


def kind_by_name(names: Iterable[str]) -> str | None:
    """The kind that names speak of, chat if of none; None: of what no kind of ours is. Folders say nothing."""
    known = [name.rpartition("/")[2] if name.startswith(("/", ".", "~")) else name for name in names]
    for pattern, kind in ((_RANKS, "rerank"), (_EMBEDS, "embedding"), (_OTHER, None)):
        if any(pattern.search(name) for name in known):
            return kind
    return "chat"

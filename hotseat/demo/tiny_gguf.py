"""Writes small GGUF models with random weights that a real `llama-server` loads and speaks with.

Such a model says nonsense, but it says it in real words, at real speed, from a real file: it is what tests load and
swap. Rule: whatever is sampled is a word. One dimension of the hidden state is the same for every token and every
layer, and the output matrix uses it to push control tokens, byte tokens and the end of text far below all words. So
the text is always valid UTF-8 and a completion is always exactly as long as was asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

CONTROL_TOKENS = ("<unk>", "<s>", "</s>")
BYTE_TOKENS = tuple(f"<0x{value:02X}>" for value in range(256))
SYLLABLES = ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "ta", "ve", "wi", "xo", "zu", "ka")
WORDS = tuple(f"\u2581{first}{second}" for first in SYLLABLES for second in SYLLABLES)

# GGUF's token types.
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

CONSTANT = 0  # the dimension of the hidden state that never changes
CONSTANT_VALUE = 8.0
FORBIDDEN_LOGIT_WEIGHT = -100.0

CHAT_TEMPLATE = (
    "{% if tools %}{% for t in tools %}tool: {{ t | tojson }}{{ '\\n' }}{% endfor %}{% endif %}"
    "{% for m in messages %}{{ m['role'] }}: {% if m['content'] %}{{ m['content'] }}{% endif %}"
    "{% if m['tool_calls'] %}{% for c in m['tool_calls'] %}"
    "<function={{ c['function']['name'] }}>{{ c['function']['arguments'] | tojson }}</function>"
    "{% endfor %}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if not tools %}assistant:{% endif %}"
)
"""llama.cpp reads from it how calls of tools look, and makes a grammar of that: with `tool_choice: required` such a
model calls one too, with arguments of its schema. After tools nothing is put in the model's mouth: the grammar would
have to begin with it, and fails on how these words are cut into tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufShape:
    """The size of a model.

    Attributes:
        width: Length of the hidden state; a multiple of 32 and of `heads`.
        layers: Transformer blocks.
        feed_forward: Length of a block's inner layer; a multiple of 32.
        heads: Attention heads; `width / heads` must be even.
        context: Longest text, tokens.
    """

    width: int = 64
    layers: int = 1
    feed_forward: int = 64
    heads: int = 4
    context: int = 4096


TINY = GgufShape()
FAT = GgufShape(width=1024, layers=16, feed_forward=4096, heads=16)  # about 540 MB: a stand-in for what a swap costs


def write_tiny_gguf(path: Path, *, name: str, seed: int, shape: GgufShape = TINY) -> Path:
    """Write one model file, atomically: a reader sees the whole file or none.

    Args:
        path: Where to; its folder must exist.
        name: What the model calls itself (`general.name`).
        seed: The same seed and shape give the same bytes.
        shape: How large.

    Raises:
        ImportError: `gguf` and `numpy` come with the `demo` extra only.
    """
    from gguf import GGUFWriter  # noqa: PLC0415 - the demo extra is optional

    unfinished = path.with_name(f"{path.name}.part")
    writer = GGUFWriter(unfinished, "llama")
    _add_description(writer, name=name, shape=shape)
    _add_vocabulary(writer)
    _add_weights(writer, seed=seed, shape=shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return unfinished.replace(path)


def _add_description(writer: GGUFWriter, *, name: str, shape: GgufShape) -> None:
    writer.add_name(name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width // shape.heads)


def _add_vocabulary(writer: GGUFWriter) -> None:
    writer.add_tokenizer_model("llama")
    tokens = [*CONTROL_TOKENS, *BYTE_TOKENS, *WORDS]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([UNKNOWN, CONTROL, CONTROL, *[BYTE] * len(BYTE_TOKENS), *[NORMAL] * len(WORDS)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_weights(writer: GGUFWriter, *, seed: int, shape: GgufShape) -> None:
    import numpy as np  # noqa: PLC0415 - the demo extra is optional

    generator = np.random.default_rng(seed)

    def weights(rows: int, columns: int) -> Any:
        return (generator.standard_normal((rows, columns), dtype=np.float32) / columns**0.5).astype(np.float16)

    def constant_kept(rows: int, columns: int) -> Any:
        """Weights that add nothing to the constant dimension of the hidden state."""
        matrix = weights(rows, columns)
        matrix[CONSTANT, :] = 0
        return matrix

    def ones() -> Any:
        return np.ones(shape.width, dtype=np.float32)

    width, inner = shape.width, shape.feed_forward
    for number in range(shape.layers):
        block = f"blk.{number}"
        writer.add_tensor(f"{block}.attn_norm.weight", ones())
        for part in ("attn_q", "attn_k", "attn_v"):
            writer.add_tensor(f"{block}.{part}.weight", weights(width, width))
        writer.add_tensor(f"{block}.attn_output.weight", constant_kept(width, width))
        writer.add_tensor(f"{block}.ffn_norm.weight", ones())
        writer.add_tensor(f"{block}.ffn_gate.weight", weights(inner, width))
        writer.add_tensor(f"{block}.ffn_up.weight", weights(inner, width))
        writer.add_tensor(f"{block}.ffn_down.weight", constant_kept(width, inner))
    _add_vocabulary_weights(writer, embedding=weights(_token_count(), width), output=weights(_token_count(), width))
    writer.add_tensor("output_norm.weight", ones())


def _add_vocabulary_weights(writer: GGUFWriter, *, embedding: Any, output: Any) -> None:
    """Add the first and the last matrix, bent so that only words can be sampled."""
    forbidden = len(CONTROL_TOKENS) + len(BYTE_TOKENS)
    embedding[:, CONSTANT] = CONSTANT_VALUE
    output *= 8  # without it every word is equally likely and the text never settles
    output[:, CONSTANT] = 0
    output[:forbidden, CONSTANT] = FORBIDDEN_LOGIT_WEIGHT
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)


def _token_count() -> int:
    return len(CONTROL_TOKENS) + len(BYTE_TOKENS) + len(WORDS)

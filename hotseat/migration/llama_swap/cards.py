"""Which cards the imported models run on, and the slots that follow: one a card, or one for those that a model joins.

Rule: a model that names no card takes every one it sees, as llama.cpp does. Where models name no more than one card
between them, there is one slot and nothing to say.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

VISIBLE = {
    "CUDA_VISIBLE_DEVICES": "cuda",
    "HIP_VISIBLE_DEVICES": "rocm",
    "ROCR_VISIBLE_DEVICES": "rocm",
    "GGML_VK_VISIBLE_DEVICES": "vulkan",
    "ZE_AFFINITY_MASK": "sycl",
    "ONEAPI_DEVICE_SELECTOR": "sycl",
}
"""Variables that let a program see some of a make's cards, in their numbers or by their names."""
_DEVICE = re.compile(r"(CUDA|ROCm|HIP|Vulkan|SYCL|Metal)(\d+)", re.IGNORECASE)
_FAMILIES = {"hip": "rocm"}
_UUID = re.compile(r"GPU-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
"""A whole UUID of NVIDIA's; a shorter one is a beginning that the driver completes."""


@dataclass(frozen=True, slots=True)
class Use:
    """Which cards one model takes, or that it takes none."""

    cards: tuple[str, ...] = ()
    """Names of the cards; empty: every one it sees."""
    on_cpu: bool = False


def use_of(words: Sequence[str], env: Mapping[str, str]) -> Use:
    """Read it from a model server's own arguments and variables."""
    options = dict(pairwise([*words, ""]))
    visible = {family: _listed(value) for name, family in VISIBLE.items() if (value := env.get(name)) is not None}
    device = options.get("--device", options.get("-dev", env.get("LLAMA_ARG_DEVICE", "")))
    layers = next((options[o] for o in ("-ngl", "--n-gpu-layers", "--gpu-layers") if o in options), "")
    if device == "none" or layers == "0" or (not device and "" in visible.values()):
        return Use(on_cpu=True)
    if named := _DEVICE.findall(device):
        return Use(tuple(dict.fromkeys(_card(_family(make), int(number), visible) for make, number in named)))
    if (split := options.get("--tensor-split", options.get("-ts", ""))) and re.fullmatch(r"[\d.,/ ]+", split):
        shares = [part for part in re.split(r"[,/]", split) if part.strip()]
        return _first(visible, [index for index, share in enumerate(shares) if share.strip(" 0.")])
    if options.get("--split-mode", options.get("-sm")) == "none":
        main = options.get("--main-gpu", options.get("-mg", "0"))
        return _first(visible, [int(main)] if main.isdecimal() and len(main) < 4 else [0])
    count = options.get("--tensor-parallel-size", options.get("-tp", ""))
    if count.isdecimal() and len(count) < 4:
        return _first(visible, list(range(int(count))))
    return Use(tuple(_name(family, card) for family, cards in visible.items() for card in cards or ()))


def _listed(value: str) -> tuple[str, ...] | str:
    """Return the cards that a variable lists; empty text: none at all."""
    cards = tuple(card.strip().rpartition(":")[2] for card in value.split(",") if card.strip())
    return "" if not cards or cards[0] == "-1" else cards


def _first(visible: Mapping[str, tuple[str, ...] | str], indexes: Iterable[int]) -> Use:
    family = next(iter(visible), "cuda")
    return Use(tuple(dict.fromkeys(_card(family, index, visible) for index in indexes)))


def _card(family: str, index: int, visible: Mapping[str, tuple[str, ...] | str]) -> str:
    """Return the card that a program calls by this number, which counts those it sees."""
    cards = visible.get(family) or ()
    return _name(family, cards[index] if index < len(cards) else str(index))


def _family(make: str) -> str:
    return _FAMILIES.get(make.lower(), make.lower())


def _name(family: str, card: str) -> str:
    return card if card.upper().startswith(("GPU-", "MIG-")) else family + re.sub(r"[^A-Za-z0-9._-]", "-", card)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A slot that follows from the models' cards."""

    cards: tuple[str, ...]

    @property
    def id(self) -> str:
        """Name of the slot, made of its cards' names."""
        return "-".join(self.cards)[:128]

    @property
    def device_uuid(self) -> str | None:
        """UUID of the device, if the slot is one card of NVIDIA's that is named whole; else None."""
        return self.cards[0] if len(self.cards) == 1 and _UUID.fullmatch(self.cards[0]) else None


def slots_of_cards(uses: Mapping[str, Use]) -> dict[Slot, tuple[str, ...]]:
    """Make slots, with the models that belong to each, from what each model takes; empty: one slot is enough."""
    every = tuple(dict.fromkeys(card for use in uses.values() for card in use.cards))
    if len(every) < 2:
        return {}
    together = {card: {card} for card in every}
    for use in uses.values():
        cards = set() if use.on_cpu else set(use.cards or every)
        joined = set().union(*(together[card] for card in cards)) if cards else set()
        for card in joined:
            together[card] = joined
    found: dict[Slot, tuple[str, ...]] = {}
    for card in every:
        slot = Slot(cards=tuple(one for one in every if one in together[card]))
        members = [name for name, use in uses.items() if not use.on_cpu and set(use.cards or every) <= set(slot.cards)]
        found[slot] = tuple(members)
    return found

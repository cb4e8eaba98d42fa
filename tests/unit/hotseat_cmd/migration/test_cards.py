"""Cards become slots: one a card, or one for those that a model joins."""

import pytest

from hotseat.migration.llama_swap.cards import Use, slots_of_cards, use_of

UUID = "GPU-11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    "words, env, cards",
    [
        ("", {}, ()),
        ("", {"CUDA_VISIBLE_DEVICES": "1"}, ("cuda1",)),
        ("", {"CUDA_VISIBLE_DEVICES": "0, 1"}, ("cuda0", "cuda1")),
        ("", {"CUDA_VISIBLE_DEVICES": UUID}, (UUID,)),
        ("", {"HIP_VISIBLE_DEVICES": "0"}, ("rocm0",)),
        ("", {"GGML_VK_VISIBLE_DEVICES": "2"}, ("vulkan2",)),
        ("", {"ONEAPI_DEVICE_SELECTOR": "level_zero:1"}, ("sycl1",)),
        ("--device CUDA1", {}, ("cuda1",)),
        ("-dev CUDA0,CUDA1", {}, ("cuda0", "cuda1")),
        ("--device CUDA0", {"CUDA_VISIBLE_DEVICES": "3,4"}, ("cuda3",)),
        ("--device ROCm0", {"HIP_VISIBLE_DEVICES": "GPU-61fe9ba0"}, ("GPU-61fe9ba0",)),
        ("", {"LLAMA_ARG_DEVICE": "Vulkan1"}, ("vulkan1",)),
        ("--tensor-split 3,2", {}, ("cuda0", "cuda1")),
        ("-ts 1,0,1", {"CUDA_VISIBLE_DEVICES": "5,6,7"}, ("cuda5", "cuda7")),
        ("--split-mode none --main-gpu 2", {}, ("cuda2",)),
        ("-sm none", {}, ("cuda0",)),
    ],
)
def test_what_a_model_takes(words, env, cards):
    assert use_of(words.split(), env) == Use(cards)


@pytest.mark.parametrize(
    "words, env",
    [("--device none", {}), ("-ngl 0", {}), ("", {"CUDA_VISIBLE_DEVICES": ""}), ("", {"CUDA_VISIBLE_DEVICES": "-1"})],
)
def test_some_take_none(words, env):
    assert use_of(words.split(), env) == Use(on_cpu=True)


def slots(**uses):
    return {slot.id: members for slot, members in slots_of_cards(uses).items()}


def test_one_card_is_one_slot_without_a_word():
    assert slots(a=Use(("cuda0",)), b=Use(("cuda0",)), c=Use()) == {}


def test_a_slot_a_card():
    assert slots(a=Use(("cuda0",)), b=Use(("cuda1",)), c=Use(("cuda0",))) == {"cuda0": ("a", "c"), "cuda1": ("b",)}


def test_a_model_over_two_joins_them_and_no_others():
    found = slots(a=Use(("cuda0",)), b=Use(("cuda1", "cuda2")), c=Use(("cuda2",)), d=Use(on_cpu=True))
    assert found == {"cuda0": ("a",), "cuda1-cuda2": ("b", "c")}


def test_a_model_that_names_no_card_takes_every_one():
    assert slots(a=Use(("cuda0",)), b=Use(("cuda1",)), c=Use()) == {"cuda0-cuda1": ("a", "b", "c")}


def test_only_a_whole_uuid_of_one_card_is_measured():
    (one, two) = slots_of_cards({"a": Use((UUID,)), "b": Use(("GPU-61fe9ba0",))})
    assert (one.device_uuid, two.device_uuid) == (UUID, None)

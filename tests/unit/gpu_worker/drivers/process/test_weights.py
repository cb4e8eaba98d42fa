"""What a recipe loads is found without starting it: the right files, each once, and none where nothing is certain."""

from pathlib import Path

import pytest

from gpu_worker.drivers.port import Recipe
from gpu_worker.drivers.process.weights import FOLDER_START_S, START_S, weights_of


@pytest.fixture
def put(tmp_path):
    def make(name, size):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
        return str(path)

    return make


def look(*command, model_path=None, env=()):
    return weights_of(
        Recipe(
            model="a", command=command, served_name="a", kind="chat", memory_mib=1,
            model_path=Path(model_path) if model_path else None, env=env,
        )
    )  # fmt: skip


def size_of(*command, **more):
    found = look(*command, **more)
    return found and found.size_bytes


def test_one_file_is_found_however_it_is_named(put):
    file = put("w.gguf", 5000)
    assert size_of("serve", "-m", file) == 5000
    assert size_of("serve", "--model", file) == 5000
    assert size_of("serve", f"--model={file}") == 5000
    assert size_of("serve", "-m", "{model_path}", model_path=file) == 5000
    assert size_of("serve", "-m", "{model_path}/w.gguf", model_path=str(Path(file).parent)) == 5000
    assert size_of("serve", model_path=file) == 5000
    assert size_of("serve", env=(("LLAMA_ARG_MODEL", file),)) == 5000
    assert size_of("serve", file) == 5000
    assert size_of("sh", "-c", f"exec serve --model='{file}' # -m /x") == 5000
    assert look("serve", "-m", file).start_s == START_S
    assert look("serve", "-m", file).largest == Path(file)


def test_the_parts_of_a_split_file_are_summed_and_others_beside_it_are_not(put):
    parts = [put(f"big-0000{n}-of-00003.gguf", 1000 * n) for n in (1, 2, 3)]
    put("big-00001-of-00002.gguf", 50)
    put("bigger-00001-of-00003.gguf", 70)
    put("big.gguf", 90)
    assert size_of("serve", "-m", parts[0]) == 6000
    assert look("serve", "-m", parts[0]).largest == Path(parts[2])


def test_what_is_loaded_beside_the_model_counts(put):
    file, eyes, draft = put("w.gguf", 5000), put("mmproj.gguf", 300), put("draft.gguf", 20)
    assert size_of("serve", "-m", file, "--mmproj", eyes) == 5300
    assert size_of("serve", "-m", "{model_path}", f"--mmproj={eyes}", "-md", draft, model_path=file) == 5320
    assert size_of("serve", "-m", file, env=(("LLAMA_ARG_MMPROJ", eyes),)) == 5300
    assert size_of("serve", "--mmproj", eyes) is None, "of the model itself nothing is known"
    assert size_of("serve", "-m", file, "-md", file) == 5000, "one file is read once"


def test_the_safetensors_of_a_folder_are_summed(put):
    for name, size in {
        "model-00001-of-00002.safetensors": 700,
        "model-00002-of-00002.safetensors": 800,
        "consolidated.safetensors": 1500,
        "pytorch_model.bin": 1500,
        "tokenizer.json": 9,
    }.items():
        folder = Path(put(f"hf/{name}", size)).parent
    for command in (("vllm", "serve", str(folder)), ("python", "-m", "vllm.x", "--model", str(folder)), ("x",)):
        assert look(*command, model_path=folder).size_bytes == 1500
        assert look(*command, model_path=folder).start_s == FOLDER_START_S
    assert size_of("vllm", "serve", str(folder)) == 1500


def test_a_folder_of_parts_and_one_of_other_weights_are_summed_too(put):
    put("pipe/unet/model.safetensors", 40)
    folder = Path(put("pipe/vae/model.safetensors", 2)).parents[1]
    assert size_of("draw", model_path=folder) == 42
    old = Path(put("old/pytorch_model.bin", 77)).parent
    assert size_of("serve", "--model", str(old)) == 77


def test_a_link_counts_as_the_file_behind_it_and_once(put, tmp_path):
    file = put("blob", 5000)
    (tmp_path / "link.gguf").symlink_to(file)
    assert size_of("serve", "-m", str(tmp_path / "link.gguf"), "-md", file) == 5000


@pytest.mark.parametrize(
    "command",
    [
        ("serve", "-m", "/nowhere/w.gguf"),
        ("serve", "-hf", "org/repo:Q4_K_M"),
        ("python3", "-m", "http.server"),
        ("serve", "-m"),
        ("serve", "-m", "a\0b"),
        ("serve", "-m", "x" * 5000),
        ("sh", "-c", "exec serve -m 'unfinished"),
        ("serve", "-m", "/dev/zero"),
        ("serve", "--model", "/proc"),
        (),
    ],
)
def test_where_nothing_is_found_nothing_is_claimed(command):
    assert look(*command) is None


def test_a_folder_that_an_option_names_is_not_taken_for_the_model(put):
    file, cache = put("w.safetensors", 5000), Path(put("slots/saved.bin", 70)).parent
    assert size_of("serve", "--slot-save-path", str(cache)) is None
    assert size_of("draw", "--vae", file, "--slot-save-path", str(cache)) == 5000


def test_an_empty_file_says_nothing(put):
    assert look("serve", "-m", put("w.gguf", 0)) is None

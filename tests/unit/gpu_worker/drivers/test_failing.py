"""What the end of a load says about the next one: real last words of real programs."""

import signal

import pytest

from gpu_worker.drivers.failing import (
    Around,
    Endings,
    Failing,
    ProcessEnd,
    of_a_death,
    of_a_fall,
    of_no_output,
    of_words,
)

ALONE = Around()
BESIDE = Around(neighbours=("other",))
CROWDED = Around(foreign_mib=9000)
AGAIN = Around(again=True)
ONE = ProcessEnd(status=1)

LASTING = [
    "error: invalid argument: --flash-atn",
    "gguf_init_from_file: failed to open GGUF file '/models/x.gguf' (No such file or directory)",
    "llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file",
    "api_server.py: error: unrecognized arguments: --max-model-length 8192",
    "python3: can't open file '/srv/serve.py': [Errno 2] No such file or directory",
    "ModuleNotFoundError: No module named 'vllm'",
    "error: unexpected argument '--porrt' found",
    "flag provided but not defined: -alais",
    "unknown model architecture: 'qwen9'",
    "gguf_init_from_file: invalid magic characters: 'abcd', expected 'GGUF'",
    "tensor 'blk.3.ffn' data is not within the file bounds, model is corrupted or incomplete",
    "OSError: /models/none is not a local folder and is not a valid model identifier listed on the Hub",
    "bash: line 1: llama-serve: command not found",
    "bash: ./serve.sh: Permission denied",
]
MEMORY = [
    "CUDA error: out of memory",
    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 19000.00 MiB on device 0: cudaMalloc failed: out of memory",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "ValueError: No available memory for the cache blocks. Try increasing gpu_memory_utilization",
    "vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "llama_model_load: unable to allocate CUDA0 buffer",
]
OF_THE_HOST = [
    "couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 41233",
    "OSError: [Errno 98] Address already in use",
    "write error: No space left on device",
    "terminate: Resource temporarily unavailable",
    "OSError: [Errno 24] Too many open files",
]


@pytest.mark.parametrize("words", LASTING)
def test_what_no_second_try_can_mend_is_permanent_whoever_is_beside_it(words):
    assert of_a_death(ONE, words, ALONE) is Failing.PERMANENT
    assert of_a_death(ONE, words, BESIDE) is Failing.PERMANENT


@pytest.mark.parametrize("status", [126, 127])
def test_what_a_shell_cannot_execute_is_permanent_though_nothing_is_said(status):
    assert of_a_death(ProcessEnd(status=status), "", ALONE) is Failing.PERMANENT


@pytest.mark.parametrize("words", MEMORY)
@pytest.mark.parametrize("death", [ONE, ProcessEnd(status=-signal.SIGABRT)])
def test_memory_is_a_matter_of_who_else_is_there(words, death):
    assert of_a_death(death, words, BESIDE) is Failing.ROOM
    assert of_a_death(death, words, CROWDED) is Failing.HOST, "somebody else's memory may come back"
    assert of_a_death(death, words, ALONE) is Failing.PERMANENT, "it had the device to itself"
    assert of_no_output(words, ALONE) is Failing.PERMANENT


@pytest.mark.parametrize("words", OF_THE_HOST)
def test_the_hosts_doing_is_not_the_models_however_often(words):
    for around in (ALONE, BESIDE, AGAIN):
        assert of_a_death(ONE, words, around) is Failing.HOST


def test_what_is_not_explained_is_tried_once_more_and_lasting_when_it_comes_again():
    for death in (ONE, ProcessEnd(status=0), ProcessEnd(status=-signal.SIGSEGV)):
        assert of_a_death(death, "main: exiting", ALONE) is Failing.PASSING
        assert of_a_death(death, "main: exiting", AGAIN) is Failing.PERMANENT
        assert of_a_death(death, "main: exiting", BESIDE) is Failing.ROOM


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_who_was_killed_by_somebody_may_live_the_next_time_however_often(number):
    assert of_a_death(ProcessEnd(status=-number), "", AGAIN) is Failing.PASSING
    assert of_a_death(ProcessEnd(told="its guardian was killed"), "", AGAIN) is Failing.PASSING


def test_a_network_that_is_away_passes_however_often():
    words = "requests.exceptions.ConnectionError: Connection refused while fetching config.json"
    assert of_a_death(ONE, words, AGAIN) is Failing.PASSING


def test_a_server_that_was_ready_is_never_for_good_at_its_first_fall():
    for words in (*LASTING, ""):
        assert of_a_fall(words, ALONE, Failing.PASSING) is Failing.PASSING
        assert of_a_fall(words, BESIDE, Failing.USELESS) is Failing.USELESS
    for words in MEMORY:
        assert of_a_fall(words, BESIDE, Failing.USELESS) is Failing.ROOM
        assert of_a_fall(words, ALONE, Failing.USELESS) is Failing.USELESS


def test_room_is_not_what_it_wants_that_ended_so_alone_as_well():
    known = Around(neighbours=("other",), again=True, alone_too=True)
    assert of_a_death(ONE, "main: exiting", known) is Failing.PERMANENT
    assert of_a_death(ONE, MEMORY[0], known) is Failing.PERMANENT
    assert of_no_output("", known) is Failing.PERMANENT
    assert of_a_death(ONE, "main: exiting", Around(neighbours=("other",), again=True)) is Failing.ROOM


def test_the_same_ending_is_the_same_only_while_nothing_has_changed():
    endings = Endings()

    def note(model, how, stamp, *neighbours):
        around = endings.note(model, how, stamp, neighbours, 0)
        return around.again, around.alone_too

    assert note("a", "status 1", "stamp1", "b") == (False, False)
    assert note("a", "status 1", "stamp1") == (True, False)
    assert note("a", "status 1", "stamp1", "b") == (True, True)
    assert note("a", "status 2", "stamp1", "b") == (False, False)
    assert note("a", "status 2", "stamp2", "b") == (False, False)
    assert note("a", "status 2", "stamp2", "b") == (True, False)
    assert note("c", "status 2", "stamp2") == (False, False)
    assert endings.models == {"a", "c"}
    endings.forget("c")
    assert note("c", "status 2", "stamp2") == (False, False)


@pytest.mark.parametrize(
    "words, failing",
    [
        ("ollama: model requires more system memory (5.6 GiB) than is available (3.2 GiB)", Failing.ROOM),
        ("ollama: cudaMalloc failed: out of memory", Failing.ROOM),
        ("ollama: error loading model: unknown model architecture: 'x'", Failing.PERMANENT),
        ("ollama: write /tmp/x: no space left on device", Failing.HOST),
        ("ollama: llama runner process has terminated", Failing.PASSING),
    ],
)
def test_a_refused_load_is_judged_by_what_the_server_said(words, failing):
    assert of_words(words) is failing

"""``hotseat.toml`` as the broker reads it."""

import pytest

from broker.config.broker_config import load_config
from broker.core.lease import Priority
from schemas.config.drivers import DRIVERS
from schemas.config.file import ConfigError, ModelEntry, check_room

MODEL = '[[model]]\nname = "a"\nmemory_mib = 100\n'
THERE_IS = f"there is {', '.join(sorted(DRIVERS))}"
ANONYMOUS = "[broker]\nanonymous = true\n"
ALIAS = '[[routing.alias]]\nname = "x"\ncandidates = ["a"]\n'
KEY = f'[[key]]\nname = "k"\nsha256 = "{"0" * 64}"\n'


def load(tmp_path, text: str, **environ: str):
    path = tmp_path / "hotseat.toml"
    path.write_text(text)
    return load_config(path, environ)


def test_the_least_that_works(tmp_path):
    config = load(tmp_path, ANONYMOUS + MODEL)
    assert (config.broker.host, config.broker.port) == ("127.0.0.1", 4687)
    assert config.policy.settings().max_wait_s[Priority.NORMAL] == 600
    assert config.pool_settings().models[0].name == "a"
    assert config.lease_bounds().ttl_default_s == 60


def test_one_class_may_be_set_and_the_others_stay(tmp_path):
    config = load(tmp_path, ANONYMOUS + MODEL + "[policy.max_wait_s]\ninteractive = 60\n")
    settings = config.policy.settings()
    assert (settings.max_wait_s[Priority.INTERACTIVE], settings.max_wait_s[Priority.BATCH]) == (60, 600)


def test_the_environment_wins(tmp_path):
    assert load(tmp_path, ANONYMOUS + MODEL, HOTSEAT_BROKER_PORT="5000").broker.port == 5000


@pytest.mark.parametrize(
    "text, word",
    [
        (MODEL, "key"),
        (ANONYMOUS, "model"),
        ('[broker]\nanonymous = true\nhost = "0.0.0.0"\n' + MODEL, "loopback"),
        ('[broker]\nanonymous = true\nhost = "example.org"\n' + MODEL, "loopback"),
        (ANONYMOUS + "prot = 1\n" + MODEL, "prot"),
        (ANONYMOUS + 'hosts = ["*"]\n' + MODEL, "hosts"),
        (ANONYMOUS + 'hosts = ["http://a.example"]\n' + MODEL, "without scheme"),
        (ANONYMOUS + 'cors_origins = ["*"]\n' + MODEL, "every web page"),
        (ANONYMOUS + 'cors_origins = ["null"]\n' + MODEL, "sandboxed"),
        (ANONYMOUS + 'cors_origins = ["a.example"]\n' + MODEL, "scheme://host"),
        (ANONYMOUS + "[limits]\nttl = 1\n" + MODEL, "ttl"),
        (ANONYMOUS + "[limits]\nttl_min_s = 100\n" + MODEL, "ttl_min_s"),
        (ANONYMOUS + "[limits]\nrepoll_s = 10\nwaiter_ttl_s = 10\n" + MODEL, "repoll_s"),
        (ANONYMOUS + "[policy]\nslice = 1\n" + MODEL, "slice"),
        (ANONYMOUS + "[policy.weights]\nurgent = 1\n" + MODEL, "weights"),
        (ANONYMOUS + "[policy.weights]\nbatch = 0\n" + MODEL, "weights.batch"),
        (ANONYMOUS + "[other]\n" + MODEL, "other"),
        (KEY.replace("0" * 64, "abc") + MODEL, "sha256"),
        (KEY + 'scopes = ["root"]\n' + MODEL, "scopes"),
        (KEY + "scopes = []\n" + MODEL, "scopes: must have at least 1 item"),
        (KEY + 'models = ["b"]\n' + MODEL, "models: 'b' is no model; there is a"),
        (KEY + 'models = ["x"]\n' + MODEL + ALIAS, "models: 'x' is no model; it leads to others"),
        (KEY + KEY + MODEL, "same name"),
        (KEY + "colour = 1\n" + MODEL, "colour"),
    ],
)
def test_mistakes_are_named(tmp_path, text, word):
    with pytest.raises(ConfigError, match=word.replace(".", r"\.")):
        load(tmp_path, text)


@pytest.mark.parametrize("name", ["HOTSEAT_BROKER_PROT", "HOTSEAT_NONSENSE", "HOTSEAT_KEY_NAME"])
def test_unknown_variables_are_refused(tmp_path, name):
    with pytest.raises(ConfigError):
        load(tmp_path, ANONYMOUS + MODEL, **{name: "1"})


def test_names_and_origins_are_lists_in_the_file_and_have_commas_in_the_environment(tmp_path):
    text = (
        '[broker]\nhosts = ["GPU.example.org:443", "*.ts.net"]\ncors_origins = ["http://Localhost:5173/", "*"]\n' + KEY
    )
    section = load(tmp_path, text + MODEL).broker
    assert section.hosts == ("gpu.example.org", "*.ts.net")
    assert section.cors_origins == ("http://localhost:5173", "*")
    environ = {"HOTSEAT_BROKER_HOSTS": "a.example, b.example", "HOTSEAT_BROKER_CORS_ORIGINS": "app://obsidian.md"}
    section = load(tmp_path, ANONYMOUS + MODEL, **environ).broker
    assert section.hosts == ("a.example", "b.example")
    assert section.cors_origins == ("app://obsidian.md",)


@pytest.mark.parametrize(
    "words, tokens",
    [
        ((), None),
        (("--ctx-size", "4096"), 4096),
        (("-c", "4096", "--parallel", "2"), 2048),
        (("-c", "many"), None),
        (("-c",), None),
        (("-c", "0"), None),
        (("-c", "4096", "-np", "0"), 4096),
        (("-c", "1", "-np", "2"), None),
        (("--max-model-len", "8192"), 8192),
        (("--max-model-len=8192",), 8192),
    ],
)
def test_where_a_models_context_is_not_given_its_command_tells(words, tokens):
    entry = ModelEntry(name="m", memory_mib=1, driver="other", command=("server", *words))
    assert entry.offered_tokens == tokens
    assert entry.model_copy(update={"context_tokens": 77}).offered_tokens == 77


@pytest.mark.parametrize("driver, meant", [("gguf", THERE_IS), ("proces", r"did you mean process\?")])
def test_a_model_whose_driver_there_is_not_is_refused_by_the_broker_too(tmp_path, driver, meant):
    with pytest.raises(ConfigError, match=rf'toml:\d+: \[\[model\]\] "a": driver: no driver {driver!r}; {meant}'):
        load(tmp_path, ANONYMOUS + MODEL + f'driver = "{driver}"\n')


def test_a_keys_pattern_that_matches_nothing_is_warned_about(tmp_path):
    config = load(tmp_path, KEY + 'models = ["a*", "b*"]\n' + MODEL)
    assert config.warnings() == ("""[[key]] "k": models: no model matches 'b*'""",)


# ----------------------------------------------------------------------------------------------- what is to be there
COMMAND = ("server", "--port", "{port}", "--api-key-file", "{api_key_file}")


def entry(name, memory_mib, **more):
    return ModelEntry(name=name, memory_mib=memory_mib, command=COMMAND, **more)


def test_what_is_to_be_there_reaches_the_pool(tmp_path):
    config = load(tmp_path, ANONYMOUS + MODEL + "pinned = true\nkeep = 2\neviction_weight = 2.5\n")
    [model] = config.pool_settings().models
    assert (model.pinned, model.keep, model.eviction_weight) == (True, 2, 2.5)
    assert config.policy.settings().idle_restore_s == 300.0


@pytest.mark.parametrize("stays", ["pinned = true", "keep = 1"])
def test_what_is_to_stay_cannot_be_given_back_by_the_clock(tmp_path, stays):
    with pytest.raises(ConfigError, match="leave one of them out"):
        load(tmp_path, ANONYMOUS + MODEL + stays + "\nrelease_vram_after_s = 60\n")


def test_a_default_that_gives_its_memory_back_is_worth_a_word(tmp_path):
    config = load(tmp_path, ANONYMOUS + MODEL + "default = true\nrelease_vram_after_s = 60\n")
    assert "not loaded unless somebody asks" in config.warnings()[0]
    assert load(tmp_path, ANONYMOUS + MODEL + "default = true\n").warnings() == ()


@pytest.mark.parametrize(
    "entries, budgets",
    [
        ([entry("a", 600, pinned=True), entry("b", 600, pinned=True)], {"gpu0": 1000}),
        ([entry("a", 1200, pinned=True)], {"gpu0": 1000, "gpu1": 800}),
        ([entry("a", 600, pinned=True, keep=2)], {"gpu0": 1000}),
        ([entry("a", 600, pinned=True, keep=2), entry("b", 600, pinned=True)], {"gpu0": 1000, "gpu1": 1000}),
    ],
)
def test_pinned_models_that_do_not_fit_are_refused_by_name_and_size(entries, budgets):
    with pytest.raises(ConfigError, match=r"pinned models do not fit: a \((2 x )?\d+ MiB\).* on gpu0 \(1000 MiB\)"):
        check_room(entries, budgets)


def test_a_default_that_what_is_pinned_leaves_no_room_for_is_refused():
    pinned, default = entry("a", 600, pinned=True), entry("b", 600, default=True)
    with pytest.raises(ConfigError, match="'b': the default needs 600 MiB, but what is pinned leaves 400 MiB at most"):
        check_room([pinned, default], {"gpu0": 1000})
    check_room([pinned, default], {"gpu0": 1000, "gpu1": 700})
    check_room([default], {"gpu0": 100})  # nothing is pinned: whether it fits is for the slot to say
    check_room([entry("a", 600, pinned=True, default=True)], {"gpu0": 1000})


def test_what_is_pinned_needs_room_on_the_slots_that_it_is_bound_to():
    bound = [entry("a", 600, pinned=True, slots=("gpu1",)), entry("b", 600, pinned=True, slots=("gpu1",))]
    with pytest.raises(ConfigError, match="the pinned models do not fit"):
        check_room(bound, {"gpu0": 2000, "gpu1": 1000})
    check_room(bound, {"gpu1": 1200})


def test_what_another_host_starts_and_slots_of_unknown_size_are_left_alone():
    check_room([ModelEntry(name="a", memory_mib=5000, pinned=True)], {"gpu0": 1000})
    check_room([entry("a", 5000, pinned=True)], {})


WORKER = '[worker]\nname = "w"\n[[worker.slot]]\nid = "gpu0"\n'


@pytest.mark.parametrize("slot, refused", [("budget_mib = 1000\n", True), ('device_uuid = "GPU-1"\n', False)])
def test_one_file_for_all_parts_is_checked_as_a_whole(tmp_path, slot, refused):
    models = "".join(
        f'[[model]]\nname = "{name}"\nmemory_mib = 600\npinned = true\ncommand = {list(COMMAND)!r}\n' for name in "ab"
    )
    if refused:
        with pytest.raises(ConfigError, match="do not fit"):
            load(tmp_path, ANONYMOUS + WORKER + slot + models)
    else:
        load(tmp_path, ANONYMOUS + WORKER + slot + models)

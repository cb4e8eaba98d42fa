"""Files that are broken, or mean harm."""

import pytest

from hotseat.commands.import_ import FAILED, main
from hotseat.migration.yaml_file import MAX_BYTES

SMALL = "models:\n  a:\n    cmd: llama-server --port ${PORT} -m /m.gguf\n"


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "must be a table"),
        ("[1, 2]", "must be a table"),
        ("a: 1", "neither llama-swap's"),
        ("models: []", "neither llama-swap's"),
        ("peers: {}", "there is none"),
        ("general_settings: {store_model_in_db: true}", "those in its database cannot be read"),
        ("models: {}", "there is none"),
        ("models: {a: 3}", "models.a: must be a table"),
        ("models: {a: {cmd: x, macros: [1]}}", "macros: must be a table"),
        ("models: {a: {cmd: x}}\nmacros: {m: [1]}", "must be text, a number"),
        ("model_list: [3]", "must be a table"),
        ("model_list: []", "there is none"),
        ("model_list: [{model_name: a}]", "needs model_name"),
        ("model_list: [{model_name: a, litellm_params: {model: dall-e-3}}]", "nothing to import"),
        ("model_list: [{model_name: a, litellm_params: {model: os.environ/NOWHERE}}]", "set NOWHERE as LiteLLM has"),
        ("model_list: [{model_name: a, litellm_params: 3}]", "must be a table"),
        ("{model_list: [{}], credential_list: 3}", "credential_list: must be a list"),
        ("a: b: c", "line 1, column 5"),
        ("a: 1\na: 2", "the key 'a' occurs twice"),
        ("models: {a: {cmd: x}, a: {cmd: y}}", "occurs twice"),
        ("a: !!python/object/apply:os.system [id]", "not YAML that can be used"),
        ("a: \x00", "not YAML that can be used"),
        ("a: 'x\udcff'", "not YAML that can be used"),
        ("[" * 3000, "nested too deeply"),
        ("a: &a\n  <<: *a\n", "recurs|not YAML|nested|neither"),
        ("#" * (MAX_BYTES + 1), "more than"),
        (SMALL + "hooks: 3", "hooks: must be a table"),
        (SMALL + "    env: ['BAD NAME\x01=1']", "not YAML that can be used"),
        ("models: {'//': {cmd: x}}", "none can be served"),
        ("models: {w: {cmd: 'whisper-server --port ${PORT}'}}", "serves sound or pictures"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(text, complaint, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert main([str(tmp_path / "c.yaml")]) == FAILED
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("hotseat import: ")
    assert shown.err.count("\n") == 1
    assert any(word in shown.err for word in complaint.split("|"))


def test_merge_keys_that_multiply_are_stopped(tmp_path, capsys):
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(10)) + "}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    assert main([str(tmp_path / "c.yaml")]) == FAILED
    assert "too many" in capsys.readouterr().err


def test_aliases_that_stand_for_millions_are_neither_walked_nor_printed(imported):
    lines = ["x0: &x0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 12)]
    status, _, text, _ = imported(SMALL + "\n".join(lines) + "\n")
    assert status == 0
    assert len(text) < 5000


@pytest.mark.parametrize(
    "value",
    [
        "x\\n[broker]\\nanonymous = true",
        "x\\r[key]",
        "x\\x1b[2J\\u2028y",
        r"\\\" ] #",
        "'''",
        "\\u202e",
        "é" * 300,
        r"\ud800",
        r"\U000e0001",
    ],
)
def test_no_value_breaks_out_of_its_place_in_the_file(value, imported):
    lines = (
        f'    name: "{value}"',
        f'    "{value}": 1',
        f'    env: ["E={value}"]',
        f'    useModelName: "m{value[:20]}"',
        (
            f'    filters: {{stripParams: "{value}", setParams: {{"{value}": "{value}"}}, '
            f'setParamsByID: {{"{value}": {{}}}}}}'
        ),
        f'peers: {{p: {{proxy: "http://10.0.0.1", apiKey: "{value}", models: ["m{value[:20]}"]}}}}',
    )
    text = SMALL + "\n".join((*lines, f'"k{value}": 1')) + "\n"
    status, document, out, shown = imported(text)
    assert status == 0
    assert set(document) <= {"store", "broker", "worker", "model", "routing"}
    assert document["broker"] == {"anonymous": True}
    assert all(char.isprintable() or char == "\n" for char in out + shown)


@pytest.mark.parametrize("value", ["x\\n[broker]\\nanonymous = true", "x\\x1b[2J\\u2028y", "'''", "\\u202e", r"\ud800"])
def test_no_value_of_litellms_does_either(value, imported):
    entry = f"""{{model_name: "a{value}", litellm_params: {{model: "ollama/m{value}", temperature: "{value}",
                "{value}": 1, api_key: "{value}"}}, model_info: {{"{value}": 1}}}}"""
    cloud = f"""{{model_name: "b{value}", litellm_params: {{model: "groq/m{value}", api_key: "sk{value}"}}}}"""
    text = f"""model_list: [{entry}, {cloud}]
general_settings: {{master_key: sk-a}}
router_settings: {{model_group_alias: {{"c{value}": "a{value}"}}, fallbacks: [{{"a{value}": ["b{value}", "{value}"]}}]}}
"""
    status, document, out, shown = imported(text)
    assert status == 0
    assert document["broker"] == {}
    assert all(char.isprintable() or char == "\n" for char in out + shown)


@pytest.mark.parametrize(
    "cmd, why",
    [
        ("", "is empty"),
        ("'llama-server \"-m x'", "cannot be split"),
        ("llama-server -m", "-m has no value"),
        ("'llama-server -m /m --x {other}'", "holds braces"),
        ("'llama-server -m /m --x {model_path} --y {api_key}'", "which is for variables alone"),
        ("bash -c 'llama-server'", "is a router"),
        ("bash -c", "-c has no value"),
        ("bash -c 'echo \"'", "cannot be split"),
        ("'serve --port ${PORT} {model_path}'", "for the worker to fill in"),
        ('"serve \\0"', "NUL"),
        ("podman run llama-server", "starts a container"),
        ("llama-server ${NOPE}", "${NOPE} is not defined"),
        ("llama-server ${env.NOT_SET_HERE}", "NOT_SET_HERE is not set"),
        ("llama-server ${loop}", "contain each other"),
        ("llama-server ${grow}", "more than 64 KiB"),
        ("3", "is empty"),
    ],
)
def test_a_command_that_cannot_be_ours_leaves_a_model_without_one(cmd, why, imported):
    macros = "macros: {loop: '${loop}', grow: '${grow}${grow}x'}\n"
    status, document, _, shown = imported(f"{macros}models:\n  a:\n    cmd: {cmd}\n")
    assert status == 0
    assert "command" not in document["model"][0]
    assert f"models.a.cmd: {why}" in shown or why in shown

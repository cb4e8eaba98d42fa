"""What is wrong with a command is seen before it is run, and what was mended is seen to have changed."""

import os
import sys
from pathlib import Path

import pytest

from gpu_worker.drivers.port import Recipe
from gpu_worker.drivers.process.inspection import inspect


def recipe_of(*command, **more):
    words = {"model": "a", "served_name": "a", "kind": "chat", "memory_mib": 1} | more
    return Recipe(command=command, **words)


def look(*command, **more):
    return inspect(recipe_of(*command, **more), "entry", os.environ["PATH"])


@pytest.fixture
def files(tmp_path):
    program, weights = tmp_path / "serve", tmp_path / "w.gguf"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    weights.write_bytes(b"GGUF")
    return tmp_path, str(program), str(weights)


def test_a_sound_command_has_no_trouble(files):
    _, program, weights = files
    assert look(program, "-m", weights).trouble == ""
    assert look(program, "--model={model_path}", model_path=Path(weights)).trouble == ""
    assert look(sys.executable, "-m", "vllm.entrypoints", "--log-file", "/nowhere/x.log").trouble == ""
    assert look("sh", "-c", "exec serve -m /nowhere/x.gguf").trouble == "", "what a shell does is its own business"


@pytest.mark.parametrize(
    "command, trouble",
    [
        (
            ("/opt/llama.cpp/build/bin/llama-server", "-m", "x"),
            "program not found: /opt/llama.cpp/build/bin/llama-server",
        ),
        (("no-such-program",), "program not found: no-such-program"),
        (("{tmp}/plain.txt",), "cannot be executed: {tmp}/plain.txt"),
        (("{tmp}/serve", "-m", "{tmp}/none.gguf"), "no such file: {tmp}/none.gguf"),
        (("{tmp}/serve", "--model={tmp}/none.gguf"), "no such file: {tmp}/none.gguf"),
        (("{tmp}/serve", "-m", "{tmp}/w.gguf", "--mmproj", "{tmp}/none.gguf"), "no such file: {tmp}/none.gguf"),
        (("python3", "{tmp}/none.py", "--port", "1"), "no such file: {tmp}/none.py"),
    ],
)
def test_what_is_wrong_for_certain_is_said(files, command, trouble):
    tmp, _, _ = files
    (tmp / "plain.txt").write_text("")
    words = [word.replace("{tmp}", str(tmp)) for word in command]
    assert look(*words).trouble == trouble.replace("{tmp}", str(tmp))


def test_declared_weights_must_be_there_only_where_the_command_asks_for_them(files):
    tmp, program, _ = files
    none = tmp / "none.gguf"
    assert look(program, "-m", "{model_path}", model_path=none).trouble == f"no such file: {none}"
    assert look(program, "--auto", model_path=none).trouble == ""


@pytest.mark.parametrize("option", ["-hf", "--hf-repo", "--model-url=https://host/x.gguf", "-mu"])
def test_what_the_program_fetches_itself_need_not_be_there(files, option):
    _, program, _ = files
    assert look(program, option, "org/repo", "-m", "/nowhere/x.gguf").trouble == ""


def test_the_stamp_changes_with_entry_program_weights_and_scripts(files):
    tmp, program, weights = files
    script = tmp / "serve.py"
    command = (program, "-m", weights, str(script))
    seen = [look(*command).stamp]
    script.write_text("pass")
    seen.append(look(*command).stamp)
    Path(weights).write_bytes(b"GGUF, mended")
    seen.append(look(*command).stamp)
    Path(program).chmod(0o700)
    seen.append(look(*command).stamp)
    seen.append(inspect(recipe_of(*command), "another entry", os.environ["PATH"]).stamp)
    assert len(set(seen)) == len(seen)
    assert look(*command).stamp == seen[3]


def test_a_folder_of_weights_is_looked_into(files):
    tmp, program, _ = files
    folder = tmp / "hf"
    folder.mkdir()
    before = look(program, "--model", str(folder)).stamp
    (folder / "config.json").write_text("{}")
    assert look(program, "--model", str(folder)).stamp != before


def test_words_that_are_no_paths_harm_nobody(files):
    _, program, _ = files
    assert look(program, "a\0b/c", "x" * 5000 + "/y", "http://host/x?y=/z").trouble == ""

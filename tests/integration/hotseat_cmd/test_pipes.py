"""`hotseat … | head`, `>/dev/full`, `>&-`: what becomes of a command's output is told by its status, not by a crash."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hotseat.cli import SUBCOMMANDS
from hotseat.terminal.output import READER_GONE
from tests.fakes.broker_scene import Scene, memory_scene
from tests.fakes.gateway_scene import gateway_scene

HOTSEAT = Path(sys.executable).with_name("hotseat")
HELP = [("--help",), ("--version",), *((name, "--help") for name in SUBCOMMANDS)]
ALONE = [("key", "new", "anna", "--scope", "lease"), ("import", "hotseat.yaml"), ("nonesuch",)]
LOOKS = [("ps",), ("ps", "--json"), ("report",), ("report", "--json"), ("why", "LEASE"), ("why", "LEASE", "--json")]
CONFIG = """
models:
  a:
    cmd: llama-server --port ${PORT} -m /models/a.gguf
"""


def nobody_reads() -> int:
    """The end to write to of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def ended(words, tmp_path, **streams) -> subprocess.CompletedProcess[str]:
    (tmp_path / "hotseat.yaml").write_text(CONFIG)
    process = subprocess.Popen(
        [HOTSEAT, *words], cwd=tmp_path, text=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **streams
    )
    _, said = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, None, said)


@pytest.mark.parametrize("words", [*HELP, *ALONE[:2]], ids=" ".join)
def test_a_reader_that_has_gone_ends_a_command_as_it_ends_ls(words, tmp_path):
    writer = nobody_reads()
    try:
        done = ended(words, tmp_path, stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode == READER_GONE == 128 + signal.SIGPIPE
    assert all(line.startswith(("# The key", "hotseat import: 1 model")) for line in done.stderr.splitlines())


@pytest.mark.parametrize("words", [("--version",), ("ps", "--help"), ALONE[0]], ids=" ".join)
def test_a_full_disk_is_one_line(words, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = ended(words, tmp_path, stdout=full)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"hotseat: cannot write: {os.strerror(errno.ENOSPC)}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("--version",), ("ps", "--help"), ALONE[0]], ids=" ".join)
def test_a_closed_output_is_one_line(words, tmp_path):
    done = ended(words, tmp_path, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"hotseat: cannot write: {os.strerror(errno.EBADF)}")


@pytest.mark.parametrize("words", ALONE, ids=" ".join)
@pytest.mark.parametrize("closed", ["closed", "unread"])
def test_remarks_that_nobody_hears_change_nothing(words, closed, tmp_path):
    (tmp_path / "hotseat.yaml").write_text(CONFIG)
    usual = subprocess.run([HOTSEAT, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    writer = nobody_reads()
    try:
        done = subprocess.run(
            [HOTSEAT, *words],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=writer,
            preexec_fn=(lambda: os.close(2)) if closed == "closed" else None,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == usual.returncode
    assert len(done.stdout) == len(usual.stdout)  # a key is never the same twice


async def run(scene: Scene, *words: str, stdout: int) -> tuple[int, str]:
    environ = os.environ | {"HOTSEAT_URL": scene.url}
    process = await asyncio.create_subprocess_exec(
        HOTSEAT, *words, stdout=stdout, stderr=asyncio.subprocess.PIPE, env=environ
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_looking_at_a_pool_through_head_is_quiet():
    async with memory_scene() as scene:
        lease = (await scene.lease()).json()["leaseId"]
        writer = nobody_reads()
        try:
            for look in LOOKS:
                words = [lease if word == "LEASE" else word for word in look]
                assert await run(scene, *words, stdout=writer) == (READER_GONE, ""), words
        finally:
            os.close(writer)


@pytest.mark.parametrize("words", [("lease", "a"), ("lease", "a", "--no-wait"), ("lease", "a", "--format", "json")])
async def test_a_lease_that_nobody_was_told_of_is_given_back(words):
    async with gateway_scene({"a": []}) as scene:
        writer = nobody_reads()
        try:
            status, said = await run(scene, *words, stdout=writer)
        finally:
            os.close(writer)
        assert status == READER_GONE
        assert "Traceback" not in said
        assert not scene.leases()


async def test_what_a_command_opens_never_becomes_its_output(tmp_path):
    """With a descriptor closed the next socket would have its number, and what is printed would go to the broker."""
    async with memory_scene() as scene:
        script = f'"{HOTSEAT}" run a -- sh -c "echo heard >&2; echo lost" >&- <&-'
        process = await asyncio.create_subprocess_shell(
            script, stderr=asyncio.subprocess.PIPE, env=os.environ | {"HOTSEAT_URL": scene.url}
        )
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert b"heard" in said
        assert b"Traceback" not in said


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}


def test_an_mcp_client_that_hangs_up_before_its_answer_is_no_failure(tmp_path):
    asked = tmp_path / "asked"
    asked.write_text(json.dumps(HELLO) + "\n")
    writer = nobody_reads()
    try:
        with asked.open() as stdin:
            done = subprocess.run(
                [HOTSEAT, "mcp"], stdin=stdin, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
            )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")

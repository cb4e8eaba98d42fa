"""`hotseat run` with real jobs: the lease is given back when nothing of it lives, and the job ends with its lease."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpu_worker.host import procfs
from tests.fakes.broker_scene import until
from tests.fakes.gateway_scene import GatewayScene, gateway_scene
from tests.fakes.terminal import Terminal

HOTSEAT = Path(sys.executable).with_name("hotseat")
TERM, INT, HUP, QUIT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL
TRAP = "trap '' INT TERM HUP; "
CHILDREN = {
    "child": "sleep 300 & echo $! > $DIR/pid; wait",
    "own_session": "setsid sleep 300 & echo $! > $DIR/pid; wait",
    "own_group": "set -m; sleep 300 & echo $! > $DIR/pid; wait",
    "daemon": "(setsid sh -c 'echo $$ > $DIR/pid; exec sleep 300' &) ; sleep 300",
    "without_environment": "(env -i setsid sleep 300 & echo $! > $DIR/pid) ; sleep 300",
    "orphan": "(sleep 300 & echo $! > $DIR/pid); exec sleep 300",
}


class Job:
    """One `hotseat run` and the folder its job writes into."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process, self.folder = process, folder
        self.said = ""

    async def pid_of(self, name: str = "pid") -> int:
        await until(lambda: (self.folder / name).exists() and (self.folder / name).read_text().strip())
        return int((self.folder / name).read_text())

    async def until_says(self, text: str) -> None:
        assert self.process.stderr is not None
        while text not in self.said:
            line = await asyncio.wait_for(self.process.stderr.readline(), 60)
            assert line, f"{text!r} was not said: {self.said}"
            self.said += line.decode()

    async def end(self, within_s: float = 20) -> int:
        status = await asyncio.wait_for(self.process.wait(), within_s)
        assert self.process.stderr is not None
        self.said += (await self.process.stderr.read()).decode()
        return status


def lives(pid: int) -> bool:
    return procfs.start_of(pid) > 0


@pytest.fixture
async def scene() -> AsyncIterator[GatewayScene]:
    async with gateway_scene({"a": [], "b": []}) as made:
        yield made


@pytest.fixture
async def start(scene, tmp_path):
    jobs = []

    async def started(*words: str, shell: str = "", model: str = "a", before: tuple[str, ...] = ()) -> Job:
        command = ("bash", "-c", shell) if shell else ()
        argv = [*before, str(HOTSEAT), "run", model, "--url", scene.url, "--ttl", "6", *words, "--", *command]
        argv = argv[:-1] if "--" in words else argv
        process = await asyncio.create_subprocess_exec(
            "env", "--default-signal", *argv, env={**os.environ, "DIR": str(tmp_path)},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        jobs.append(Job(process, tmp_path))
        return jobs[-1]

    yield started
    for job in jobs:
        if job.process.returncode is None:
            job.process.kill()
            await job.process.wait()


# ---------------------------------------------------------------------------------------------------- told to end


@pytest.mark.parametrize("kind", CHILDREN)
@pytest.mark.parametrize("number", [TERM, INT, HUP], ids=lambda number: number.name)
async def test_who_is_told_to_end_ends_all_that_the_command_has_started(scene, start, kind, number):
    job = await start(shell=CHILDREN[kind])
    pid = await job.pid_of()
    assert len(scene.leases("active")) == 1
    job.process.send_signal(number)
    assert await job.end() == 128 + number
    assert not lives(pid)
    assert not scene.leases("active", "queued", "ending")


async def test_the_lease_is_held_until_the_last_of_the_job_is_gone(scene, start):
    job = await start("--kill-after", "2", shell=f"({TRAP} echo $BASHPID > $DIR/pid; sleep 300; sleep 300) & wait")
    pid = await job.pid_of()
    job.process.send_signal(TERM)
    while lives(pid):
        assert scene.leases("active"), "it was given back before"
        await asyncio.sleep(0.02)
    assert await job.end() == 128 + TERM
    await scene.all_given_back()


async def test_a_second_signal_kills(scene, start):
    job = await start("--kill-after", "300", shell=f"{TRAP} echo $$ > $DIR/pid; while :; do sleep 300; done")
    pid = await job.pid_of()
    for _ in range(2):
        job.process.send_signal(TERM)
        await asyncio.sleep(0.5)
    assert await job.end() == 128 + KILL
    assert not lives(pid)
    await scene.all_given_back()


async def test_timeout_asks_once_though_it_signals_twice(scene, start):
    """GNU timeout signals what it started, and then its own group, which that is in."""
    shell = "trap 'sleep 0.5; echo saved > $DIR/saved; exit 3' TERM; echo $$ > $DIR/pid; while :; do sleep 0.1; done"
    job = await start(shell=shell, before=("timeout", "--preserve-status", "2"))
    assert await job.end() == 3
    assert (job.folder / "saved").exists()
    await scene.all_given_back()


async def test_hanging_up_again_does_not_kill(start):
    """A window that closes: the shell hangs up on its jobs, then the kernel on whoever is in the foreground."""
    shell = "trap 'sleep 1; echo saved > $DIR/saved; exit 3' HUP; echo $$ > $DIR/pid; while :; do sleep 0.1; done"
    job = await start(shell=shell)
    await job.pid_of()
    for _ in range(2):
        job.process.send_signal(HUP)
        await asyncio.sleep(0.5)
    assert await job.end() == 3
    assert (job.folder / "saved").exists()


async def test_a_command_may_end_its_work_first_and_keeps_its_status(scene, start):
    job = await start(
        shell="trap 'echo saved > $DIR/saved; exit 3' TERM; echo $$ > $DIR/pid; while :; do sleep 0.1; done"
    )
    await job.pid_of()
    job.process.send_signal(TERM)
    assert await job.end() == 3
    assert (job.folder / "saved").read_text() == "saved\n"


COUNTS = """
import os, signal, time
for number in (15, 10): signal.signal(number, lambda number, _: print(number, flush=True))
open(os.environ["DIR"] + "/pid", "w").write(str(os.getpid()))
while True: time.sleep(0.1)
"""


async def test_a_signal_to_the_whole_group_comes_once(start):
    """As `kill %1` of a shell sends it, and a build server."""
    job = await start("--kill-after", "3", "--", sys.executable, "-c", COUNTS, before=("setsid",))
    await job.pid_of()
    for number in (signal.SIGUSR1, TERM):
        os.killpg(job.process.pid, number)
        await asyncio.sleep(0.5)
    assert await job.end() == 128 + KILL
    assert job.process.stdout is not None
    assert await job.process.stdout.read() == b"10\n15\n"


async def test_other_signals_are_the_commands_own(start):
    job = await start(shell="trap 'echo saved > $DIR/saved' USR1; echo $$ > $DIR/pid; while :; do sleep 0.1; done")
    await job.pid_of()
    job.process.send_signal(signal.SIGUSR1)
    await until((job.folder / "saved").exists)
    assert job.process.returncode is None


@pytest.mark.parametrize("number", [INT, TERM], ids=lambda number: number.name)
async def test_a_job_in_the_background_of_a_script_obeys_too(scene, start, number):
    """Shells start those with SIGINT ignored, and so does what they start in turn."""
    ignoring = ("env", "--ignore-signal=INT")
    job = await start(shell="sleep 300 & echo $! > $DIR/pid; wait", before=ignoring)
    pid = await job.pid_of()
    job.process.send_signal(number)
    assert await job.end() == 128 + TERM
    assert not lives(pid)


async def test_nohup_is_respected(start):
    job = await start(shell="echo $$ > $DIR/pid; exec sleep 300", before=("env", "--ignore-signal=HUP"))
    pid = await job.pid_of()
    job.process.send_signal(HUP)
    await asyncio.sleep(0.5)
    assert lives(pid)
    assert job.process.returncode is None


# -------------------------------------------------------------------------------------------------------- killed


async def test_a_job_ends_when_hotseat_run_is_killed(start):
    job = await start("--kill-after", "1", shell=f"({TRAP} setsid sleep 300 & echo $! > $DIR/pid); exec sleep 300")
    pid = await job.pid_of()
    job.process.kill()
    await until(lambda: not lives(pid))


def children_of(pid: int) -> list[int]:
    return [proc.pid for proc in procfs.living() if proc.parent == pid]


async def test_a_job_ends_and_gives_back_when_its_keeper_is_killed(scene, start):
    job = await start(shell="(setsid sleep 300 & echo $! > $DIR/pid); exec sleep 300")
    pid = await job.pid_of()
    (keeper,) = children_of(job.process.pid)
    os.kill(keeper, KILL)
    assert await job.end() == 128 + KILL
    assert not lives(pid)
    await scene.all_given_back()


async def test_a_command_dies_with_both(start):
    job = await start(shell="echo $$ > $DIR/pid; exec sleep 300")
    pid = await job.pid_of()
    (keeper,) = children_of(job.process.pid)
    for each in (job.process.pid, keeper):
        os.kill(each, KILL)
    await until(lambda: not lives(pid))


# ------------------------------------------------------------------------------------------------- its own end


async def test_what_the_command_leaves_running_keeps_the_lease(scene, start):
    job = await start(shell="(setsid sleep 300 & echo $! > $DIR/pid); exit 4")
    pid = await job.pid_of()
    await job.until_says("left running")
    assert f"sleep ({pid})" in job.said
    assert scene.leases("active")
    os.kill(pid, KILL)
    assert await job.end() == 4
    await scene.all_given_back()


async def test_leftovers_are_stopped_where_that_is_asked(scene, start):
    job = await start("--stop-leftovers", shell="(setsid sleep 300 & echo $! > $DIR/pid); exit 4")
    pid = await job.pid_of()
    assert await job.end() == 4
    assert not lives(pid)
    await scene.all_given_back()


async def test_one_that_waits_for_leftovers_can_be_told_to_end(scene, start):
    job = await start(shell="(setsid sleep 300 & echo $! > $DIR/pid); exit 0")
    pid = await job.pid_of()
    await job.until_says("left running")
    job.process.send_signal(TERM)
    assert await job.end() == 128 + TERM
    assert not lives(pid)


@pytest.mark.parametrize(
    "command, status, says",
    [
        (("true",), 0, ""),
        (("sh", "-c", "exit 7"), 7, ""),
        (("sh", "-c", "kill -9 $$"), 128 + KILL, ""),
        (("sh", "-c", "kill -2 $$"), 128 + INT, ""),
        (("no-such-program",), 127, "no-such-program: No such file or directory"),
        (("/etc/passwd",), 126, "/etc/passwd: Permission denied"),
        (("/",), 126, "/: Permission denied"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_exit_statuses_are_those_of_shells(scene, start, command, status, says):
    job = await start("--", *command)
    assert await job.end() == status
    assert says in job.said
    await scene.all_given_back()


async def test_without_a_lease_nothing_runs(start, tmp_path):
    job = await start("--", "touch", str(tmp_path / "ran"), model="unknown")
    assert await job.end() == 125
    assert "there is no model 'unknown'; there are: a, b, huge" in job.said
    assert not (tmp_path / "ran").exists()


async def test_input_output_and_other_descriptors_are_the_commands(start, tmp_path):
    (tmp_path / "other").write_text("other\n")
    job = await start(
        shell="cat; cat <&5; echo err >&2; for fd in {0..20}; do [ ! -e /proc/$$/fd/$fd ] || echo $fd; done",
        before=("bash", "-c", f'exec "$@" 5< {tmp_path}/other', "-"),
    )  # fmt: skip
    assert job.process.stdin is not None
    job.process.stdin.write(b"in\n")
    job.process.stdin.write_eof()
    out, err = await job.process.communicate()
    assert out.decode().splitlines() == ["in", "other", "0", "1", "2", "5"]
    assert err.splitlines()[-1:] == [b"err"]


async def test_nobody_else_holds_open_what_the_command_closes(start, tmp_path):
    os.mkfifo(tmp_path / "other")
    reading = asyncio.create_task(asyncio.to_thread((tmp_path / "other").read_bytes))
    opening = ("bash", "-c", f'exec "$@" 5> {tmp_path}/other', "-")
    job = await start(
        shell="echo all; echo more >&5; echo $$ > $DIR/pid; exec <&- >&- 5>&-; exec sleep 300", before=opening
    )
    pid = await job.pid_of()
    assert job.process.stdout is not None
    assert await asyncio.wait_for(job.process.stdout.read(), 10) == b"all\n"
    assert await asyncio.wait_for(reading, 10) == b"more\n"
    assert lives(pid)


async def test_a_signal_before_the_last_one_does_not_make_it_a_second(start):
    shell = "trap : USR1; trap 'sleep 0.5; echo saved > $DIR/saved; exit 3' TERM; echo $$ > $DIR/pid; "
    job = await start(shell=f"{shell} while :; do sleep 0.1; done", before=("setsid",))
    await job.pid_of()
    job.process.send_signal(signal.SIGUSR1)
    await asyncio.sleep(0.5)
    os.kill(job.process.pid, TERM)
    os.killpg(job.process.pid, TERM)
    assert await job.end() == 3
    assert (job.folder / "saved").exists()


async def test_signals_are_as_they_were_for_the_command(start):
    ignoring, shows = ("env", "--default-signal", "--ignore-signal=INT"), ("grep", "Sig[BI]", "/proc/self/status")
    job = await start("--", *shows, before=ignoring)
    out, _ = await job.process.communicate()
    blocked, unheard = (int(line.split()[1], 16) & 0x7FFFFFFF for line in out.decode().splitlines())
    assert (blocked, unheard) == (0, 1 << (INT - 1))


async def test_a_job_runs_where_no_file_can_be_written(scene, start):
    job = await start(shell='exit "${HOTSEAT_NOTICE:-9}"', before=("bash", "-c", 'ulimit -f 0; exec "$@"', "-"))
    assert await job.end() == 9, job.said
    await scene.all_given_back()


async def test_a_closed_standard_error_stops_nothing(scene, start):
    job = await start(shell="exit 5", before=("sh", "-c", 'exec "$@" 2>&-', "-"))
    assert await job.end() == 5
    await scene.all_given_back()


# ------------------------------------------------------------------------------------------------ the lease's end


def preempt(scene: GatewayScene, grace_s: float) -> None:
    (lease,) = scene.leases("active")
    with scene.store._writing() as pool:
        pool.preempt(lease.id, grace_ms=int(grace_s * 1000), why="slice")


LISTENS = """
import os, signal, time
folder = os.environ["DIR"]
def warned(number, _):
    notice = open(os.environ["HOTSEAT_NOTICE"]).read()
    open(folder + "/warned.new", "w").write(f"{number} {notice}")
    os.replace(folder + "/warned.new", folder + "/warned")
signal.signal(signal.Signals[os.environ["LISTENS"]], warned)
assert not os.path.exists(os.environ["HOTSEAT_NOTICE"])
open(folder + "/pid", "w").write(str(os.getpid()))
while not os.path.exists(folder + "/finish"): time.sleep(0.05)
"""


@pytest.mark.parametrize("words, number", [((), TERM), (("--warn-signal", "USR1"), signal.SIGUSR1)])
async def test_a_job_whose_lease_is_asked_back_is_warned_and_can_finish(scene, start, words, number):
    listening = ("env", f"LISTENS={number.name}")
    job = await start(*words, "--", sys.executable, "-c", LISTENS, before=listening)
    await job.pid_of()
    preempt(scene, 8)
    await job.until_says("asked back: the command has")
    await until((job.folder / "warned").exists)
    got, _, notice = (job.folder / "warned").read_text().partition(" ")
    assert int(got) == number
    told = json.loads(notice)
    assert told["state"] == "ending"
    assert 5 < told["endsInSeconds"] <= 8
    assert abs(told["endsAt"] - time.time()) < 9
    (job.folder / "finish").touch()
    assert await job.end() == 0
    await scene.all_given_back()


async def test_who_was_warned_can_still_be_told(scene, start):
    job = await start("--kill-after", "1", "--", sys.executable, "-c", COUNTS)
    await job.pid_of()
    preempt(scene, 20)
    assert job.process.stdout is not None
    assert await job.process.stdout.readline() == b"15\n"
    job.process.send_signal(TERM)
    assert await job.end() == 128 + KILL
    assert await job.process.stdout.read() == b"15\n"


async def test_a_job_that_does_not_listen_has_its_grace_and_is_stopped_before_its_end(scene, start):
    beats = "while :; do date +%s.%N > $DIR/now; mv $DIR/now $DIR/beat; sleep 0.1; done"
    job = await start("--kill-after", "1", shell=f"echo $$ > $DIR/pid; {beats}")
    pid = await job.pid_of()
    preempt(scene, 4)
    asked_s = time.time()
    assert await job.end() == 124
    assert not lives(pid)
    assert float((job.folder / "beat").read_text()) - asked_s > 1.5
    (lease,) = scene.leases("ended")
    assert lease.reason == "released", "before its grace was over"


async def test_a_job_that_ignores_it_is_killed_within_the_grace(scene, start):
    job = await start("--kill-after", "1", shell=f"{TRAP} echo $$ > $DIR/pid; while :; do sleep 0.1; done")
    pid = await job.pid_of()
    preempt(scene, 3)
    assert await job.end() == 124
    assert not lives(pid)
    assert [lease.reason for lease in scene.leases("ended")] == ["released"]


async def test_a_job_whose_lease_was_taken_away_is_stopped_with_the_reason(scene, start):
    job = await start(shell="echo $$ > $DIR/pid; exec sleep 300")
    pid = await job.pid_of()
    (lease,) = scene.leases("active")
    await scene.store.end(lease.id, who="operator:x", why="operator")
    assert await job.end() == 124
    assert "the lease is over: an operator took it back" in job.said
    assert not lives(pid)


async def test_a_job_whose_model_died_is_stopped_with_the_reason(scene, start):
    job = await start(shell="echo $$ > $DIR/pid; exec sleep 300")
    await job.pid_of()
    scene.worker.dead.add("a")
    assert await job.end() == 124
    assert "the model was lost (server died)" in job.said


async def test_a_warm_lease_promised_nothing_and_its_end_stops_nobody(scene, start):
    job = await start("--intent", "warm", shell="echo $$ > $DIR/pid; exec sleep 2")
    await job.pid_of()
    (lease,) = scene.leases("active")
    await scene.store.end(lease.id, who="operator:x", why="operator")
    assert await job.end() == 0
    assert "the command goes on without it" in job.said


# -------------------------------------------------------------------------------------------------- on a terminal


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    made.close()


@contextlib.asynccontextmanager
async def shell_on(terminal: Terminal, scene: GatewayScene) -> AsyncIterator[None]:
    """An interactive shell, as in a window."""
    environment = {**os.environ, "HOTSEAT_URL": scene.url, "PS1": "ready> ", "PATH": f"{HOTSEAT.parent}:/usr/bin:/bin"}
    shell = terminal.start("bash", "--norc", "--noprofile", "-i", env=environment)
    await asyncio.to_thread(terminal.until, b"ready> ")
    try:
        yield
    finally:
        shell.kill()
        shell.wait()


async def test_ctrl_c_ends_a_job_on_a_terminal_and_the_loop_it_is_in(scene, terminal):
    async with shell_on(terminal, scene):
        terminal.type(b"for i in 1 2; do hotseat run a -- sh -c 'echo begun-$0; exec sleep 300' $i; done\n")
        await asyncio.to_thread(terminal.until, b"begun-1")
        terminal.type(b"\x03")
        terminal.type(b"echo status $?\n")
        await asyncio.to_thread(terminal.until, b"status 130")
        assert b"begun-2" not in terminal.read()
        await scene.all_given_back()


async def test_ctrl_c_is_between_the_terminal_and_a_command_that_handles_it(scene, terminal):
    async with shell_on(terminal, scene):
        terminal.type(f"hotseat run a --kill-after 1 -- {sys.executable} -q -i\n".encode())
        await asyncio.to_thread(terminal.until, b">>> ")
        for times in (1, 2):
            terminal.type(b"\x03")
            await until(lambda times=times: terminal.read().count(b"KeyboardInterrupt") >= times)
        await asyncio.sleep(1.5)
        terminal.type(b"print(6 * 7)\n")
        await asyncio.to_thread(terminal.until, b"42")
        assert scene.leases("active")
        terminal.type(b"\x04")
        await scene.all_given_back()


async def test_ctrl_z_and_fg_work_as_with_any_command(scene, terminal):
    async with shell_on(terminal, scene):
        terminal.type(b"hotseat run a -- sh -c 'echo begun; read line; echo got $line'\n")
        await asyncio.to_thread(terminal.until, b"begun")
        terminal.type(b"\x1a")
        await asyncio.to_thread(terminal.until, b"Stopped")
        terminal.type(b"fg\n")
        await asyncio.sleep(0.3)
        terminal.type(b"this\n")
        await asyncio.to_thread(terminal.until, b"got this")
        await scene.all_given_back()


async def test_a_job_that_was_suspended_longer_than_its_lease_lives_is_told_so(scene, terminal):
    async with shell_on(terminal, scene):
        terminal.type(b"hotseat run a --ttl 2 -- sh -c 'echo begun; exec sleep 300'\n")
        await asyncio.to_thread(terminal.until, b"begun")
        terminal.type(b"\x1a")
        await asyncio.to_thread(terminal.until, b"Stopped")
        await until(lambda: scene.leases("ended"))
        terminal.type(b"fg\n")
        await asyncio.to_thread(terminal.until, b"the lease is over: it was not renewed in time")
        terminal.type(b"echo status $?\n")
        await asyncio.to_thread(terminal.until, b"status 124")


async def test_a_pager_behind_it_in_a_pipeline_can_still_read_the_terminal(scene, terminal):
    async with shell_on(terminal, scene):
        terminal.type(
            b"hotseat run a -- sh -c 'echo begun; sleep 1' | sh -c 'cat; read line < /dev/tty; echo got $line'\n"
        )
        await asyncio.to_thread(terminal.until, b"begun")
        terminal.type(b"this\n")
        await asyncio.to_thread(terminal.until, b"got this")
        await scene.all_given_back()


async def test_a_window_that_closes_ends_the_job_and_gives_the_lease_back(scene, terminal, tmp_path):
    async with shell_on(terminal, scene):
        terminal.type(f"hotseat run a -- sh -c 'setsid sleep 300 & echo $! > {tmp_path}/pid; wait'\n".encode())
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        pid = int((tmp_path / "pid").read_text())
        terminal.close()
        await until(lambda: not lives(pid), 20)
        await scene.all_given_back()

"""The real nvidia-ml-py binding and a real worker against a scripted ``libnvidia-ml.so.1``."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.worker.conftest import FAKE, ROOT, eventually

UUID = "GPU-0000-1111"
READ = """
import json, sys
from gpu_worker.host.nvml import Device, GpuFaultError, NoGpuError, process_names_of
device = Device(sys.argv[1])
for line in sys.stdin:
    ours = {int(word) for word in line.split() if word.isdigit()}
    try:
        memory = device.read()
        if line.startswith("use"):
            print(json.dumps([memory.used_percent, memory.used_by_others(ours)]), flush=True)
            continue
        foreign = memory.foreign(ours)
        answer = [memory.total_mib, memory.free_mib, memory.nobodys_mib, [[p.pid, p.used_mib] for p in foreign]]
        answer.append(process_names_of(foreign))
    except (GpuFaultError, NoGpuError) as error:
        answer = [type(error).__name__, str(error)]
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the fake NVML")
    folder = tmp_path_factory.mktemp("nvml")
    source = FAKE.with_name("fake_nvml.c")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", target, source], check=True)
    return folder


@dataclass
class Gpu:
    """The scripted device."""

    path: Path
    library: Path
    total: int = 8000
    used: int = 300
    processes: dict = field(default_factory=dict)

    def script(self, *more):
        lines = [f"uuid {UUID}", f"total {self.total}", f"used {self.used}"]
        lines += [f"process {pid} {mib}" for pid, mib in self.processes.items()] + list(more)
        temporary = self.path.with_suffix(".new")
        temporary.write_text("\n".join(lines) + "\n")
        temporary.rename(self.path)

    @property
    def environ(self):
        return {"LD_LIBRARY_PATH": str(self.library), "FAKE_NVML": str(self.path)}


@pytest.fixture
def gpu(library, tmp_path):
    device = Gpu(tmp_path / "gpu.txt", library)
    device.script()
    return device


class Reader:
    """A process that reads the device whenever it is asked."""

    def __init__(self, environ, uuid=UUID):
        self.process = subprocess.Popen(
            [sys.executable, "-c", READ, uuid],
            cwd=ROOT,
            env=os.environ | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def use(self, *ours):
        return self.read("use", *ours)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_memory_and_processes_are_read_and_change_live(gpu):
    with Reader(gpu.environ) as reader:
        assert reader.read() == [8000, 7700, 300, [], ""]
        gpu.processes = {os.getpid(): 500, 4000001: 1000}
        gpu.script()
        total, free, nobodys, foreign, names = reader.read(os.getpid())
        assert (total, free, nobodys) == (8000, 6200, 300)
        assert foreign == [[4000001, 1000]]
        assert names == "unknown/4000001:1000"
        own_name = Path("/proc/self/comm").read_text().strip()
        assert reader.read()[4].endswith(f"{own_name}/{os.getpid()}:500")


def test_a_process_whose_memory_is_not_told_is_still_named(gpu):
    gpu.processes = {4000001: -1}
    gpu.script()
    with Reader(gpu.environ) as reader:
        assert reader.read()[3:] == [[[4000001, None]], "unknown/4000001:0"]


# ------------------------------------------------------------------------------------------------------ who uses it
def test_the_use_of_a_device_is_told_by_whose_it_is(gpu):
    gpu.processes = {100: 500, 200: 500, 300: 500}
    with Reader(gpu.environ) as reader:
        gpu.script("util 97", "busy 100 10", "busy 200 60", "busy 300 27")
        assert reader.use(100) == [97, 87]
        assert reader.use(100, 200, 300) == [97, 0]
        assert reader.use() == [97, 97]
        gpu.script("util 97", "busy 200 90", "busy 300 90")
        assert reader.use(100) == [97, 100], "a sum of many is no more than all"
        gpu.script("util 3", "quiet 1")
        assert reader.use(100) == [3, 0]


def test_a_driver_that_does_not_tell_is_believed_nothing(gpu):
    with Reader(gpu.environ) as reader:
        assert reader.use() == [None, None]
        gpu.script("util 80")
        assert reader.use(100) == [80, None]


def test_who_cannot_find_itself_tells_nobody_apart(gpu):
    """Its own servers hold memory under other numbers: another PID name space."""
    gpu.processes = {4000001: 500, 4000002: 500}
    gpu.script("util 90", "busy 4000001 90")
    with Reader(gpu.environ) as reader:
        assert reader.use(100) == [90, None]
        assert reader.use() == [90, 90], "with no server of its own all of it is foreign"


def test_an_old_note_is_no_use_of_now(gpu):
    with Reader(gpu.environ) as reader:
        gpu.script("util 90", "busy 4000001 90", "noted 1000000")
        assert reader.use() == [90, 90]
        assert eventually(lambda: reader.use() == [90, 0], 6, "the old note being none")
        gpu.script("util 90", "busy 4000001 80", "noted 2000000")
        assert reader.use() == [90, 80]


def test_nonsense_of_a_driver_is_at_most_all(gpu):
    with Reader(gpu.environ) as reader:
        gpu.script("util 4000000", "busy 4000001 4000000000")
        assert reader.use() == [100, 100]


@pytest.mark.parametrize("environ", [{}, {"LD_LIBRARY_PATH": "library", "FAKE_NVML": "/nonexistent"}])
def test_without_library_or_driver_there_is_no_gpu(library, environ):
    real = {name: value.replace("library", str(library)) for name, value in environ.items()}
    if not real and any(
        Path(folder, "libnvidia-ml.so.1").exists() for folder in ("/usr/lib", "/usr/lib/x86_64-linux-gnu")
    ):
        pytest.skip("this machine has an NVIDIA driver")
    with Reader(real) as reader:
        assert reader.read()[0] == "NoGpuError"


def test_a_lost_gpu_is_a_fault_and_may_come_back(gpu):
    with Reader(gpu.environ) as reader:
        assert reader.read()[0] == 8000
        gpu.script("error 15")
        kind, text = reader.read()
        assert kind == "GpuFaultError"
        assert text.startswith("gpu_lost")
        gpu.script()
        assert reader.read()[0] == 8000


def test_an_unknown_device_is_a_fault(gpu):
    with Reader(gpu.environ, "GPU-of-somebody-else") as reader:
        assert reader.read()[0] == "GpuFaultError"


# ------------------------------------------------------------------------------------------------- with a worker


@pytest.fixture
def on_gpu(workplace, gpu):
    workplace.fake("a", memory_mib=2000)
    workplace.slot = {"id": "gpu0", "device_uuid": UUID, "reserve_mib": 1000}
    workplace.worker = {"beat_s": 0.1, "memory_timeout_s": 0.5}
    workplace.environ = gpu.environ
    return workplace


@pytest.mark.redis
def test_foreign_processes_are_named_and_shrink_the_budget_at_once(on_gpu, hand, gpu):
    on_gpu.start()
    hand.register()
    report = hand.report()
    assert (report["total_mib"], report["budget_mib"], report["foreign_mib"]) == ("8000", "7000", "0")
    gpu.processes = {os.getpid(): 3000, 4000001: 100}
    gpu.script()
    report = eventually(lambda: (r := hand.report())["foreign_mib"] == "3100" and r, 2, "the foreign memory")
    assert report["budget_mib"] == "3900"
    assert f"/{os.getpid()}:3000 unknown/4000001:100" in report["foreign"]
    gpu.processes = {os.getpid(): 6000}
    gpu.script()
    eventually(lambda: hand.report()["budget_mib"] == "1000", 2, "the small budget")
    hand.load("a")
    assert hand.until("a", "failed")["error:a"].startswith("no_memory")


@pytest.mark.redis
def test_our_own_servers_are_measured_and_not_foreign(on_gpu, hand, gpu):
    on_gpu.models[0]["command"] += ["--load-delay", "0.5"]
    on_gpu.start()
    hand.register()
    hand.load("a")
    (pid,) = eventually(on_gpu.server_pids, what="a server")
    gpu.processes = {pid: 1900}
    gpu.script()
    report = hand.until("a", "ready")
    report = eventually(lambda: (r := hand.report())["mib:a"] == "1900" and r, 3, "the measured footprint")
    assert (report["foreign_mib"], report["budget_mib"]) == ("0", "7000")


@pytest.mark.redis
@pytest.mark.parametrize("left", ["memory", "process"])
def test_a_model_is_unloaded_only_when_its_memory_is_back(on_gpu, hand, gpu, left):
    on_gpu.models[0]["command"] += ["--load-delay", "0.5"]
    on_gpu.fake("b", memory_mib=2000)
    on_gpu.start()
    hand.register()
    hand.load("a")
    (pid,) = eventually(on_gpu.server_pids, what="a server")
    gpu.processes = {pid: 1900}
    gpu.script()
    hand.until("a", "ready")
    eventually(lambda: hand.report()["mib:a"] == "1900", 3, "the measured footprint")
    if left == "memory":  # the process goes, what it held does not come back
        gpu.processes, gpu.used = {}, 300 + 1900
        gpu.script()
    hand.load("b")
    report = eventually(lambda: (r := hand.report())["fault"] and r, 5, "the fault")
    assert report["fault"].startswith("memory_stuck: a generation")
    assert report["state:a"] == "unloading"
    assert "state:b" not in report
    gpu.processes, gpu.used = {}, 300
    gpu.script()
    hand.until("b", "ready", 10)
    assert hand.report()["fault"] == ""


@pytest.mark.redis
def test_a_lost_gpu_is_the_slots_fault(on_gpu, hand, gpu):
    on_gpu.start()
    hand.register()
    gpu.script("error 15")
    report = eventually(lambda: (r := hand.report())["fault"] and r, 3, "the fault")
    assert report["fault"].startswith("gpu_lost")
    assert report["budget_mib"] == "0"
    gpu.script()
    eventually(lambda: hand.report()["fault"] == "", 3, "the end of the fault")


@pytest.mark.redis
def test_a_declared_budget_counts_where_there_is_no_driver(on_gpu, hand, gpu):
    gpu.path.unlink()
    on_gpu.slot |= {"budget_mib": 2500}
    on_gpu.start()
    hand.register()
    assert hand.report()["budget_mib"] == "2500"
    hand.load("a")
    hand.until("a", "ready")


@pytest.mark.redis
def test_what_others_use_travels_in_the_report_and_steadily(on_gpu, hand, gpu):
    on_gpu.start()
    hand.register()
    assert (hand.report()["used_percent"], hand.report()["foreign_percent"]) == ("0", "-1")
    gpu.script("util 95", "busy 4000001 90")
    report = eventually(lambda: (r := hand.report())["foreign_percent"] == "90" and r, 3, "the use by others")
    assert report["used_percent"] == "95"
    gpu.script("util 5", "quiet 1")
    eventually(lambda: 60 < int(hand.report()["foreign_percent"]) < 90, 5, "a use that does not flutter")
    gpu.script("util 5")
    eventually(lambda: hand.report()["foreign_percent"] == "-1", 3, "nobody telling any more")

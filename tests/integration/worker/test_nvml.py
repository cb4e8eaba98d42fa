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
from gpu_worker.nvml import Device, GpuFaultError, NoGpuError, names_of
device = Device(sys.argv[1])
for line in sys.stdin:
    try:
        memory = device.read()
        foreign = memory.foreign({int(pid) for pid in line.split()})
        answer = [memory.total_mib, memory.free_mib, memory.nobodys_mib, [[p.pid, p.used_mib] for p in foreign]]
        answer.append(names_of(foreign))
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

    def read(self, *ours):
        self.process.stdin.write(" ".join(str(pid) for pid in ours) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

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

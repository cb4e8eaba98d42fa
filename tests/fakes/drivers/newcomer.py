"""What a new driver takes, done to a copy of the house and to the modules of a running test: one file, one line."""

import shutil
from pathlib import Path

import gpu_worker.drivers
from schemas.config import drivers
from schemas.config.file import ModelEntry

NAME = "attach"
FOLDER = Path(__file__).parent
LIST = Path("schemas/config/drivers.py")
LINE = '    "process",\n'


def move_in(house: Path) -> None:
    """The one file and the one line, into a copy of the tree."""
    shutil.copy(FOLDER / f"{NAME}.py", house / "gpu_worker" / "drivers")
    before = (house / LIST).read_text()
    assert before.count(LINE) == 1
    (house / LIST).write_text(before.replace(LINE, f'    "{NAME}",\n{LINE}'))


def be_known(monkeypatch) -> None:
    """The same for this process, until the test ends."""
    names = drivers.DRIVERS | {NAME}
    monkeypatch.setattr(drivers, "DRIVERS", names)
    monkeypatch.setattr(ModelEntry, "beside", names)
    monkeypatch.setattr(gpu_worker.drivers, "__path__", [*gpu_worker.drivers.__path__, str(FOLDER)])

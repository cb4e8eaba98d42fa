"""Finds a driver by its name in ``schemas/config/drivers.py``, the one line that a new driver needs.

Rule: the driver ``NAME`` is the module ``gpu_worker.drivers.NAME``, or ``gpu_worker.drivers.NAME.driver`` where it
takes more than one file; what that calls ``DRIVER`` is all that configuration and worker know of it.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from gpu_worker.drivers.port import Driver, DriverEntry, DriverSettings
from schemas.config import drivers


def driver_entry_of(name: str) -> DriverEntry:
    """Load the driver of a name that is in the list."""
    place = f"{__package__}.{name}"
    spec = find_spec(place)
    is_folder = spec is not None and spec.submodule_search_locations is not None
    entry = import_module(f"{place}.driver" if is_folder else place).DRIVER
    assert isinstance(entry, DriverEntry), f"{place}: DRIVER is no DriverEntry"
    return entry


def all_drivers(settings: DriverSettings) -> Mapping[str, Driver]:
    """Make one driver of every kind, also where no model names it now: what it once started is its own to find."""
    return {name: driver_entry_of(name).make(settings) for name in sorted(drivers.DRIVERS)}

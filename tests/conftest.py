"""What holds for all tests: how Hypothesis searches, when SDKs are imported, and that walks are counted."""

import pytest

from tests import searching
from tests.fakes.sdks import LazySdk

searching.load_profile()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Import what the test's module uses, before anything of the test runs."""
    for used in vars(item.getparent(pytest.Module).obj).values():
        if isinstance(used, LazySdk):
            used.load()


def pytest_terminal_summary(terminalreporter):
    """How many random walks the tests walked that passed (``record_property("walks", number)``)."""
    passed = terminalreporter.getreports("passed")
    walks = sum(number for report in passed for name, number in report.user_properties if name == "walks")
    if walks:
        terminalreporter.write_sep("=", f"{walks} walks")

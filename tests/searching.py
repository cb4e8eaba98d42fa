"""How far Hypothesis searches: the same examples in every run of `make test`, other and more ones in `make search`."""

import os

from hypothesis import HealthCheck, Phase, settings

TIMES = int(os.environ.get("SEARCH_TIMES", "0"))
"""How many times as many examples as usual, drawn anew; 0 asks for the usual ones, the same in every run."""


def load_profile() -> None:
    """Of all tests.

    No limit in seconds, which a busy machine would break. And no explain phase: after a failure it runs the test line
    by line under a tracer, on Python 3.11 a hundred times slower; the run's time limit ended it there once and was
    reported instead of the failure that had been found.
    """
    settings.register_profile(
        "house",
        deadline=None,
        derandomize=not TIMES,
        phases=[phase for phase in Phase if phase is not Phase.explain],
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("house")


def examples(usual: int) -> settings:
    """As many examples as a property is worth in every run; ``make search`` multiplies them."""
    return settings(max_examples=usual * max(1, TIMES))

"""What holds for all tests: how Hypothesis searches."""

from hypothesis import HealthCheck, Phase, settings

# No limit in seconds, which a busy machine would break. And no explain phase: after a failure it runs the test line by
# line under a tracer, on Python 3.11 a hundred times slower; the run's time limit ended it there once and was reported
# instead of the failure that had been found.
settings.register_profile(
    "untimed",
    deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")

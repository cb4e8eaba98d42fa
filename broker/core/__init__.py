"""The words that everybody may use: leases, slots, decisions, snapshots, errors. No clock, no randomness, no I/O.

Its face is ``lease``, ``slot`` and ``snapshot``, whose tables say which transitions there are.
"""

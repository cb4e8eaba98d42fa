"""``hotseat up``: store, broker, worker and demo agents on one machine, without any installation.

Its face is ``command.main``.
"""

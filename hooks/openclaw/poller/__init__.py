"""The session-activity poller: keeps the models of conversations in progress warm, without a plugin or beside it.

Its face is ``poller.Poller``; ``activity`` is the pure rule, ``sources`` are read and ``publishing`` tells the broker.
"""

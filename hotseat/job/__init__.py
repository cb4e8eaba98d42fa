"""A job under a lease: a command, all it starts, and the keeper between them and ``hotseat run``.

Its face is ``process.Job``.
"""

"""The control plane: what the pool does, what operators do to it, and why somebody waits.

Its face is ``status.router``, ``models.router`` and ``reports.router``.
"""

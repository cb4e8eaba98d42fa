"""One slot of a GPU host: its orders are read, compared with what is there, and carried out one step at a time.

Its face is ``supervisor.Supervisor``; ``reconcile`` is the pure comparison.
"""

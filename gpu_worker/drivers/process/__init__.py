"""The ``process`` driver: a model server as a child of its guardian, adopted by the next worker.

Its face is ``driver.DRIVER``.
"""

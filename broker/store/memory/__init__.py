"""The store in this process's memory, for tests and the simulator; every method is one step of the pool machine.

Its face is ``store.MemoryStore``.
"""

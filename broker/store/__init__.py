"""The store, which alone knows the truth about leases: each call commits as one step or is refused as stale.

Its face is ``port.Store``; ``redis`` and ``memory`` are two answers to it, and one contract suite asks both.
"""

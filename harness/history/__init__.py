"""What a run leaves behind (events, what clients saw, which processes lived), and the judgement of it.

It is pure: ``Entry`` and ``Operation`` are what was written down, and ``judge`` says which invariants they break.
"""

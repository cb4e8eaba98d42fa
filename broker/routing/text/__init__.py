"""Looking through text within a bounded amount of work: literals, encodings, disguises.

Its face is ``work.Work``, which counts, and ``literals``.
"""

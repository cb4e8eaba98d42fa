"""One request, from its place in line to the last byte of its answer.

Its face is ``exchange.Exchange``, which asks each candidate by an ``attempt`` of its kind; ``context`` is what all
exchanges of a process share.
"""

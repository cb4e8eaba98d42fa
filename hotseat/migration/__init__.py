"""Configurations of other programs, read into a draft of ours with a list of what it cannot hold.

Its face is ``draft.Draft``, with ``litellm.file`` and ``llama_swap.file``; ``blocks`` writes theirs for us.
"""

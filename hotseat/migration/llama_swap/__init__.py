"""llama-swap's configuration as a draft of ours.

Its face is ``file``.
"""

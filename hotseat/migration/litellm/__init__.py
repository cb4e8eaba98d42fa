"""LiteLLM's proxy configuration as a draft of ours.

Its face is ``file``.
"""

"""Command lines of model servers: which program they start, what they tell about the model, and ours for the same.

Its face is ``translate``.
"""

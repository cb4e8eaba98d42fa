"""The demo of ``hotseat up``: three agents that take turns on two small models.

Its face is ``agents`` and ``models``, which makes the model files.
"""

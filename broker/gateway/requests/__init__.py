"""What a request asks for and whose it is, read before anything is done about it.

Its face is ``identity``, ``bodies`` and ``patience``.
"""

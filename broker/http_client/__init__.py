"""A small HTTP/1.1 client that hands on the bytes of model servers and clouds as they come.

Its face is ``connection_pool.ConnectionPool`` and ``answer.Answer``.
"""

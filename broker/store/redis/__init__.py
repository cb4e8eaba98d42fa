"""The store in Redis or Valkey: the pool machine in Lua inside the server, called as one function library.

Its face is ``store.RedisStore``; only this package imports the client library.
"""

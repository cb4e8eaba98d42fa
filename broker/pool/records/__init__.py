"""What a pool remembers: rows, queues and deadlines, and the small rules that belong to one record alone.

Its face is ``state.PoolState``, whose ``rows`` have the same fields as the hashes in Redis.
"""

"""Valkey, two brokers, a worker and their clients as processes and connections that can be killed, paused and cut off.

``Cluster`` starts and breaks them, ``Client`` uses them, and ``Witness`` watches the store meanwhile.
"""

"""The daemon on a GPU host: compares what should be on each slot with what is, and takes one step at a time.

``cli`` starts it and ``app`` puts it together out of ``slot``, ``drivers`` and ``host``.
"""

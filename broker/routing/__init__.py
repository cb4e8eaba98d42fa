"""Where a request is served: pure rules over a described request and a described state of the pool.

Its face is ``route.Router``; ``catalogue`` knows every name that can be asked for, ``budget`` what may be spent.
"""

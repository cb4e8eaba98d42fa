"""The pool as a synchronous state machine, the Python twin of the store's Lua library: one method, one atomic call.

Its face is ``machine.Pool``; ``views`` draws pictures of it, ``ps`` prints it, ``check`` asks for its invariants.
"""

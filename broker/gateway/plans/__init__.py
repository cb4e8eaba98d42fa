"""Who may serve a request, best first, and what becomes of that choice while it is tried.

Its face is ``named`` (nothing to decide), ``routed_plan`` (the rules of ``broker.routing``) and ``preview``.
"""

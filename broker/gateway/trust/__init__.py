"""How far a model is trusted: by its answers, by the deaths of its server, and by test questions.

Its face is ``reputations.Reputations``, ``death_watch`` and ``signs``.
"""

"""Who may come in: API keys with their scopes, and the names and web pages that a request may come from.

Its face is ``keys`` (who calls), ``guard`` (from where) and ``principals.Principal``.
"""

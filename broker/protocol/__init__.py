"""The protocols of clients: OpenAI's, Anthropic's and our own problem documents, in headers, bodies and errors.

Its face is ``endpoints``, ``client_side.ClientSide``, ``error_bodies`` and ``problems``.
"""

"""The session-activity poller: keeps the models of conversations in progress warm, without a plugin or beside it."""

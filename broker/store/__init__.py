"""The store: commits atomically or says stale."""

"""The broker: API, policy, store. See docs/internals.md."""

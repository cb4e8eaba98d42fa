"""OpenClaw: the plugin (TypeScript) and the session-activity poller (Python)."""

"""Where sessions are read: one small port and three answers to it."""

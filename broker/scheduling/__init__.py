"""Looks at the pool when something has happened, has the policy decide, and commits; no broker is a leader.

Its face is ``scheduler.Scheduler``; ``forecasts`` keeps the latest picture for everybody who tells of waiting.
"""

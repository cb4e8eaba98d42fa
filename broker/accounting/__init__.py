"""What is counted: by Prometheus, by day for ``hotseat report``, and in one log line for each request.

Its face is ``metrics.Metrics``, ``daily_counts`` and ``requests``.
"""

"""Real processes for tests and benchmarks: broker, Valkey and Redis, a whole stack, a cluster that breaks, OpenClaw.

It imports the product alone; most callers want ``BrokerProcess``, ``RedisServer``, ``FakeWorker`` or ``real_stack``.
"""

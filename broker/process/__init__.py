"""What one broker process needs of its operating system and its interpreter: memory, logs, loops, chance.

Each file is one service, put together by ``broker.app``.
"""

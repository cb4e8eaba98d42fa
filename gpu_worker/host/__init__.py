"""The GPU host itself: processes, listeners, disks, device memory. Nothing here knows of slots or models.

Its face is ``procfs``, ``nvml`` and ``memory``.
"""

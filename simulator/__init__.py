"""A virtual GPU for judging policies: the same physics for ours and for others, on a virtual clock.

Its face is ``world.World``; ``hotseat_policy`` and ``others`` are policies, ``workloads`` and ``quiet`` are loads.
"""

"""Measurements against a stated baseline in the same run; nothing here is imported by the product.

Each file is one benchmark, ``python -m bench.NAME``; ``parts`` is what several of them use.
"""

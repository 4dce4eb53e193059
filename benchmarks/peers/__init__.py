"""What others cost on the same work.

Each has a virtual environment of its own, and loads nothing of ours but the benchmark's shop; so nothing is
imported here.
"""

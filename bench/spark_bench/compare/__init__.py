"""Runs beside each other: what differs between them, by how much, and whether that is chance.

Files become runs (load.py), runs that can't be compared are refused (align.py), the others become
a matrix (matrix.py) by the statistics of stats.py, and limits are held against it (gates.py).
"""

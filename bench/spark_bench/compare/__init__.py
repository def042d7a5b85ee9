"""Compare runs: what differs, by how much, and whether it is chance.

Files become runs (runs.py); runs that can't be compared are refused (comparison.py); the others
become a matrix of figures and differences (differences.py, with the statistics of stats.py), which
gates are judged against (gates.py). comparison.py takes these steps in order, compare_tables.py
shows the outcome, and compare_export.py writes it.
"""

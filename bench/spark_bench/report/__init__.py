"""Results as one self-contained HTML page: no network, no script.

named_runs (files → runs) → page (runs → content → HTML) with sections and charts (→ SVG)
"""

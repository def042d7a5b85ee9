"""Results as one self-contained HTML page: no network, no script.

gather (files → runs) → named_runs → page (runs → content → HTML) with sections and charts (→ SVG)
"""

"""Results as one HTML page that needs nothing else: no network, no script.

gather (files → runs) → page (runs → what the page says) → charts (→ SVG) → html (→ bytes)
"""

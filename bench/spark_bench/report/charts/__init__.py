"""Data to SVG with Vega-Lite. Colors are the page's CSS variables, so that both themes work."""

"""Data to SVG, by Vega-Lite. Colours are CSS variables of the page, so that both themes fit."""

"""The result file: its types, its schema, its provenance."""

"""pyinfra operations: they carry out what the pure core decided."""

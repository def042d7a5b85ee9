"""Engine programs of the process runtime: servers that run on this machine without a container."""

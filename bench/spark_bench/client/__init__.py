"""The client's sockets: sends a load, records what the kernel received, understands nothing."""

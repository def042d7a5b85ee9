"""The client's sockets: they send a load and store what the kernel received, without parsing it."""

"""The pure core: what is wanted, what is true, what must change. No pyinfra, I/O or clock."""

"""The pure core: what is wanted, what is true, and what must change. No pyinfra, no I/O, no clock."""

"""When it is asked: arrivals, slots, sweeps, traces, and the profiles that name them."""

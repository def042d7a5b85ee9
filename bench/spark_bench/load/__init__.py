"""When requests are sent: arrivals, slots, sweeps, traces, and the profiles that name them."""

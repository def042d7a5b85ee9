"""From requests to figures: latencies, throughput, goodput, intervals, stalls, and the server's
own histograms beside ours."""

"""/metrics of rank 0, in the form of SGLang 0.5.11 (tests/monitoring/sglang-0.5.11.txt)."""

import threading
from itertools import pairwise

from sglang import OLD

# The upper ends of the buckets in seconds, as recorded; "+Inf" comes after them.
BUCKETS = {
    "time_to_first_token_seconds": (
        *(0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0),
        *(200.0, 400.0),
    ),
    "inter_token_latency_seconds": (
        *(0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08),
        *(0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0),
    ),
}
FIRST, NEXT = BUCKETS


class Latencies:
    """What the engine observed of its tokens; as in a real one a histogram that has none is not
    there."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seconds = {name: [] for name in BUCKETS}

    def observe(self, times):
        """One request: when it came, and when each token left."""
        gaps = [later - sooner for sooner, later in pairwise(times)]
        with self.lock:
            self.seconds[FIRST] += gaps[:1]
            self.seconds[NEXT] += gaps[1:]

    def lines(self, labels):
        with self.lock:
            there = {name: sorted(seconds) for name, seconds in self.seconds.items() if seconds}
        for name, seconds in there.items():
            yield f"# TYPE sglang:{name} histogram"
            yield f"sglang:{name}_sum{{{labels}}} {sum(seconds)}"
            for end in BUCKETS[name]:
                count = sum(each <= end for each in seconds)
                yield f'sglang:{name}_bucket{{le="{end}",{labels}}} {float(count)}'
            yield f'sglang:{name}_bucket{{le="+Inf",{labels}}} {float(len(seconds))}'
            yield f"sglang:{name}_count{{{labels}}} {float(len(seconds))}"


def exposition(model, gauges, counters, latencies):
    """The text: values by name without "sglang:"."""
    labels = f'model_name="{model}"' if OLD else f'engine_type="unified",model_name="{model}"'
    ranks = labels if OLD else f'{labels},moe_ep_rank="0",pp_rank="0",tp_rank="0"'
    lines = []
    for kind, values, own in (("gauge", gauges, ranks), ("counter", counters, labels)):
        for name, value in values.items():
            lines += [f"# TYPE sglang:{name} {kind}", f"sglang:{name}{{{own}}} {float(value)}"]
    return "\n".join([*lines, *latencies.lines(labels)]) + "\n"

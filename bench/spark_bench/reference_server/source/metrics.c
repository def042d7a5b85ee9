/* /metrics under SGLang's names, with SGLang's buckets: what its users compare a client with. */
#include "reference_server.h"

#include <stdio.h>
#include <string.h>

#define MOST_BOUNDS 48
#define KV_CACHE_TOKENS (1 << 20)
#define LABEL "model_name=\"reference\""

typedef struct {
    const char *name;
    const char *help;
    double sum;
    uint64_t count;
    uint64_t over[MOST_BOUNDS]; /* [i]: above bound i-1, at most bound i */
    double bounds[MOST_BOUNDS]; /* ends with 0 */
} Histogram;

static Histogram ttft = {
    .name = "time_to_first_token_seconds",
    .help = "Histogram of time to first token in seconds.",
    .bounds = {0.1, 0.2, 0.4, 0.6, 0.8, 1,  2,  4,   6,   8,
               10,  20,  40,  60,  80,  100, 200, 400, 800},
};

static Histogram itl = {
    .name = "inter_token_latency_seconds",
    .help = "Histogram of inter-token latency in seconds.",
    .bounds = {0.002, 0.004, 0.006, 0.008, 0.010, 0.015, 0.020, 0.025, 0.030, 0.035, 0.040, 0.060,
               0.080, 0.100, 0.200, 0.400, 0.600, 0.800, 1,     2,     4,     6,     8},
};

static Histogram e2e = {
    .name = "e2e_request_latency_seconds",
    .help = "Histogram of End-to-end request latency in seconds",
    .bounds = {0.1, 0.2, 0.4, 0.6, 0.8, 1,   2,   4,   6,   8,    10,
               20,  40,  60,  80,  100, 200, 400, 600, 1200, 1800, 2400},
};

static Histogram queue_time = {
    .name = "queue_time_seconds",
    .help = "Histogram of queueing time in seconds.",
    .bounds = {0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1,   2,   3,   4,   5,   10,   15,
               20,    30,    40,   50,   60,  70,  80,  90,  100, 200, 300, 400, 500,  1000},
};

static uint64_t prompt_tokens;
static uint64_t generated_tokens;
static uint64_t finished_requests;
static uint64_t draft_steps;
static uint64_t draft_tokens; /* accepted ones, and one for each step */

/* Throughput over the last whole second or so. */
typedef struct {
    uint64_t start_ns;
    uint64_t tokens;
    double rate;
} Window;

static Window window;

static void observe(Histogram *histogram, uint64_t ns, uint32_t times)
{
    double value = (double)ns / (double)NS_PER_S / (times ? times : 1);
    size_t i = 0;
    while (histogram->bounds[i] > 0 && value > histogram->bounds[i])
        i++;
    histogram->over[i] += times;
    histogram->count += times;
    histogram->sum += value * times;
}

static void roll_window(uint64_t now)
{
    uint64_t passed = now - window.start_ns;
    if (passed < NS_PER_S)
        return;
    window.rate = (double)window.tokens * (double)NS_PER_S / (double)passed;
    window.tokens = 0;
    window.start_ns = now;
}

void metrics_started(const Stream *stream)
{
    observe(&queue_time, stream->started_ns - stream->asked_ns, 1);
}

/* As SGLang: the first step is the TTFT, later ones count once per token with gap / tokens. */
void metrics_step(Stream *stream, uint64_t now, uint32_t tokens)
{
    if (!stream->last_step_ns) {
        observe(&ttft, now - stream->asked_ns, 1);
        prompt_tokens += stream->prompt_tokens;
    } else {
        observe(&itl, now - stream->last_step_ns, tokens);
        draft_steps += stream->flags & DRAFTS ? 1 : 0;
        draft_tokens += stream->flags & DRAFTS ? tokens : 0;
    }
    stream->last_step_ns = now;
    generated_tokens += tokens;
    roll_window(now);
    if (!window.tokens)
        window.start_ns = now; /* idle time before it is no part of the rate */
    window.tokens += tokens;
}

void metrics_finished(const Stream *stream)
{
    finished_requests++;
    observe(&e2e, stream->done_ns - stream->asked_ns, 1);
}

static void clear(Histogram *histogram)
{
    histogram->sum = 0;
    histogram->count = 0;
    memset(histogram->over, 0, sizeof histogram->over);
}

void metrics_forget(void)
{
    clear(&ttft);
    clear(&itl);
    clear(&e2e);
    clear(&queue_time);
    prompt_tokens = generated_tokens = finished_requests = draft_steps = draft_tokens = 0;
    window = (Window){.start_ns = now_ns()};
}

static void print_histogram(Buffer *out, const Histogram *histogram)
{
    uint64_t below = 0;
    const char *name = histogram->name;
    buffer_print(out, "# HELP sglang:%s %s\n# TYPE sglang:%s histogram\n", name, histogram->help,
                 name);
    for (size_t i = 0; histogram->bounds[i] > 0; i++) {
        below += histogram->over[i];
        buffer_print(out, "sglang:%s_bucket{" LABEL ",le=\"%g\"} %llu\n", name,
                     histogram->bounds[i], (unsigned long long)below);
    }
    buffer_print(out, "sglang:%s_bucket{" LABEL ",le=\"+Inf\"} %llu\n", name,
                 (unsigned long long)histogram->count);
    buffer_print(out, "sglang:%s_sum{" LABEL "} %.9f\n", name, histogram->sum);
    buffer_print(out, "sglang:%s_count{" LABEL "} %llu\n", name,
                 (unsigned long long)histogram->count);
}

static void print_value(Buffer *out, const char *type, const char *name, double value)
{
    buffer_print(out, "# TYPE sglang:%s %s\nsglang:%s{" LABEL "} %.6f\n", name, type, name, value);
}

void metrics_print(Buffer *out)
{
    roll_window(now_ns());
    print_value(out, "gauge", "num_running_reqs", running);
    print_value(out, "gauge", "num_queue_reqs", queued);
    print_value(out, "gauge", "gen_throughput", running ? window.rate : 0);
    print_value(out, "gauge", "token_usage", (double)schedule_held_tokens() / KV_CACHE_TOKENS);
    print_value(out, "gauge", "cache_hit_rate", 0);
    print_value(out, "gauge", "max_total_num_tokens", KV_CACHE_TOKENS);
    if (config.drafts && draft_steps)
        print_value(out, "gauge", "spec_accept_length", (double)draft_tokens / (double)draft_steps);
    print_value(out, "counter", "prompt_tokens_total", (double)prompt_tokens);
    print_value(out, "counter", "generation_tokens_total", (double)generated_tokens);
    print_value(out, "counter", "num_requests_total", (double)finished_requests);
    print_histogram(out, &ttft);
    print_histogram(out, &itl);
    print_histogram(out, &e2e);
    print_histogram(out, &queue_time);
}

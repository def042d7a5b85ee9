/* When each stream emits.
 *
 * A stream with a time waits in a heap (TIMED); one that emits whenever it can, or with the
 * common decode clock, is in a list (ACTIVE). */
#include "reference_server.h"

#include <stdlib.h>

typedef struct {
    Stream **items;
    size_t len;
    size_t cap;
} List;

static List timed;  /* a binary heap, the earliest first */
static List active;
static uint64_t next_step;
static uint64_t stalls_from;
static bool all_blocked; /* no active stream's socket takes more */

static void list_room(List *list)
{
    if (list->len < list->cap)
        return;
    list->cap = list->cap ? list->cap * 2 : 1024;
    list->items = grow(list->items, list->cap * sizeof *list->items);
}

static void put(List *list, size_t position, Stream *stream)
{
    list->items[position] = stream;
    stream->position = position;
}

static void rise(Stream *stream)
{
    size_t at = stream->position;
    while (at) {
        size_t parent = (at - 1) / 2;
        if (timed.items[parent]->due_ns <= stream->due_ns)
            break;
        put(&timed, at, timed.items[parent]);
        at = parent;
    }
    put(&timed, at, stream);
}

static void sink(Stream *stream)
{
    size_t at = stream->position;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= timed.len)
            break;
        if (child + 1 < timed.len &&
            timed.items[child + 1]->due_ns < timed.items[child]->due_ns)
            child++;
        if (timed.items[child]->due_ns >= stream->due_ns)
            break;
        put(&timed, at, timed.items[child]);
        at = child;
    }
    put(&timed, at, stream);
}

static void time_it(Stream *stream, uint64_t due)
{
    list_room(&timed);
    stream->due_ns = due;
    stream->place = TIMED;
    put(&timed, timed.len++, stream);
    rise(stream);
}

static void postpone(Stream *stream, uint64_t due)
{
    stream->due_ns = due;
    sink(stream);
}

static void activate(Stream *stream)
{
    list_room(&active);
    stream->place = ACTIVE;
    put(&active, active.len++, stream);
}

void schedule_remove(Stream *stream)
{
    List *list = stream->place == TIMED ? &timed : &active;
    if (stream->place == NOWHERE)
        return;
    Stream *last = list->items[--list->len];
    if (last != stream) {
        put(list, stream->position, last);
        if (stream->place == TIMED) {
            rise(last);
            sink(last);
        }
    }
    stream->place = NOWHERE;
}

/* ---- engine pauses ------------------------------------------------------------------------- */

void schedule_stalls_from(uint64_t now)
{
    stalls_from = now;
}

static bool stalls(void)
{
    return config.stall_ms > 0;
}

/* The end of the pause that `now` falls into, or `now`. */
static uint64_t stall_end(uint64_t now)
{
    if (!stalls() || now < stalls_from)
        return now;
    uint64_t period = config.stall_every_ms * NS_PER_MS;
    uint64_t start = now - (now - stalls_from) % period;
    uint64_t end = start + config.stall_ms * NS_PER_MS;
    return start > stalls_from && now < end ? end : now;
}

/* `gap` of the engine's time after `from`: its pauses don't count. */
uint64_t schedule_after(uint64_t from, uint64_t gap)
{
    if (!stalls() || from < stalls_from)
        return from + gap;
    uint64_t period = config.stall_every_ms * NS_PER_MS;
    uint64_t begin = stall_end(from);
    uint64_t end = begin + gap;
    uint64_t next = begin - (begin - stalls_from) % period + period;
    for (; next <= end; next += period)
        end += config.stall_ms * NS_PER_MS;
    return end;
}

/* ---- emission ------------------------------------------------------------------------------ */

static uint64_t itl_ns(void)
{
    return config.itl_us * NS_PER_US;
}

/* xorshift64 (Marsaglia, 2003) */
static uint64_t random_below(uint64_t limit)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % limit;
}

/* From one send to the next. */
static uint64_t gap_ns(void)
{
    uint64_t gap = itl_ns() * config.together;
    uint64_t jitter = config.jitter_us * NS_PER_US;
    if (jitter)
        gap += random_below(2 * jitter) - jitter;
    if (config.heavy_permille && random_below(1000) < config.heavy_permille)
        gap += config.heavy_us * NS_PER_US;
    return gap;
}

static bool on_one_clock(void)
{
    return config.step && config.itl_us;
}

void schedule_start(Stream *stream)
{
    uint64_t ttft_us = config.ttft_us + config.ttft_per_in_us * stream->prompt_tokens;
    uint64_t wait = ttft_us * NS_PER_US;
    if (stream->flags & NOT_STREAMED)
        wait += (stream->hidden + (uint64_t)stream->chunks - 1) * itl_ns();
    if (!wait && !config.itl_us && !(stream->flags & NOT_STREAMED))
        activate(stream);
    else
        time_it(stream, schedule_after(stream->started_ns, wait));
}

/* The one longer gap of a slow stream, once it is half way. */
static void slow_down(Stream *stream)
{
    if (!stream->slow_left || stream->flags & FINISHED || stream->sent < stream->chunks / 2)
        return;
    stream->slow_left = false;
    uint64_t from = stream->place == TIMED ? stream->due_ns : now_ns();
    schedule_remove(stream);
    time_it(stream, schedule_after(from, config.slow_ms * NS_PER_MS));
}

static void emit(Stream *stream, uint64_t count)
{
    stream_emit(stream, count);
    slow_down(stream);
}

static void run_one(Stream *stream, uint64_t now)
{
    if (stream->flags & NOT_STREAMED) {
        stream_answer_whole(stream);
        return;
    }
    if (config.itl_us && !config.step) {
        postpone(stream, schedule_after(stream->due_ns, gap_ns()));
        emit(stream, config.together);
        return;
    }
    if (!active.len)
        next_step = now;
    schedule_remove(stream);
    activate(stream);
}

static void run_timed(uint64_t now)
{
    while (timed.len && timed.items[0]->due_ns <= now)
        run_one(timed.items[0], now);
}

static void run_step(void)
{
    uint64_t now = now_ns();
    if (!active.len || now < next_step)
        return;
    for (size_t i = 0; i < active.len;) {
        Stream *stream = active.items[i];
        emit(stream, config.together);
        if (i < active.len && active.items[i] == stream)
            i++;
    }
    now = now_ns();
    next_step = schedule_after(next_step, gap_ns());
    if (next_step < now)
        next_step = stall_end(now); /* an engine that is late doesn't catch up */
}

static void run_unpaced(void)
{
    all_blocked = active.len > 0;
    if (stall_end(now_ns()) > now_ns()) {
        all_blocked = false;
        return;
    }
    for (size_t i = 0; i < active.len;) {
        Stream *stream = active.items[i];
        if (stream->connection->waiting) {
            i++;
            continue;
        }
        all_blocked = false;
        emit(stream, config.burst);
        if (i < active.len && active.items[i] == stream)
            i++;
    }
}

void schedule_run(void)
{
    run_timed(now_ns());
    if (on_one_clock())
        run_step();
    else
        run_unpaced();
}

/* When schedule_run() is to be called again, if no socket asks for it sooner. */
uint64_t schedule_next(void)
{
    uint64_t due = NEVER;
    if (active.len && on_one_clock())
        due = next_step;
    else if (active.len && !all_blocked)
        due = stall_end(now_ns());
    if (timed.len && timed.items[0]->due_ns < due)
        due = timed.items[0]->due_ns;
    return due;
}

/* Tokens in the KV cache of the engine that this would be. */
uint64_t schedule_held_tokens(void)
{
    uint64_t held = 0;
    const List *lists[] = {&timed, &active};
    for (size_t l = 0; l < 2; l++) {
        for (size_t i = 0; i < lists[l]->len; i++) {
            const Stream *stream = lists[l]->items[i];
            held += stream->prompt_tokens;
            if (stream->last_step_ns)
                held += stream_tokens_after(stream, stream->sent) - stream->hidden_left;
        }
    }
    return held;
}

/* What can be set over HTTP: GET /_reference/config?key=value&... */
#include "reference_server.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const Config DEFAULTS = {
    .ttft_us = 200000,
    .itl_us = 10000,
    .k = 1,
    .burst = 1,
    .together = 1,
    .default_tokens = 128,
};

Config config = {
    .ttft_us = 200000,
    .itl_us = 10000,
    .k = 1,
    .burst = 1,
    .together = 1,
    .default_tokens = 128,
};

typedef struct {
    const char *name;
    size_t offset;
    uint64_t least;
} Key;

#define KEY(name, least) {#name, offsetof(Config, name), least}

static const Key KEYS[] = {
    KEY(ttft_us, 0),        KEY(itl_us, 0),      KEY(ttft_per_in_us, 0), KEY(step, 0),
    KEY(k, 1),              KEY(hidden, 0),      KEY(reasoning, 0),      KEY(role_early, 0),
    KEY(default_tokens, 1), KEY(stop_at, 0),     KEY(max_running, 0),    KEY(burst, 1),
    KEY(split, 0),          KEY(fail_every, 0),  KEY(cut_every, 0),      KEY(err_every, 0),
    KEY(stall_every_ms, 0), KEY(stall_ms, 0),    KEY(slow_one, 0),       KEY(slow_ms, 0),
    KEY(strict_model, 0),   KEY(jitter_us, 0),   KEY(heavy_permille, 0), KEY(heavy_us, 0),
    KEY(together, 1),       KEY(drafts, 0),
};

#define KEY_COUNT (sizeof KEYS / sizeof *KEYS)

/* Far above any use, far below overflow when it is made nanoseconds. */
#define MOST 1000000000ull

static uint64_t *value_of(Config *which, const Key *key)
{
    return (uint64_t *)((char *)which + key->offset);
}

static const Key *find(Text name)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (text_is(name, KEYS[i].name))
            return &KEYS[i];
    return NULL;
}

static bool number(Text text, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit((unsigned char)text.data[i]) || *value > MOST)
            return false;
        *value = *value * 10 + (uint64_t)(text.data[i] - '0');
    }
    return text.len > 0 && *value <= MOST;
}

static bool refuse(Buffer *answer, const char *why, Text what)
{
    answer->len = 0;
    buffer_print(answer, "{\"error\":\"%s: %.*s\"}", why, (int)(what.len < 64 ? what.len : 64),
                 what.data);
    return false;
}

static bool set_one(Config *next, Text name, Text text, Buffer *answer)
{
    uint64_t value;
    if (!number(text, &value))
        return refuse(answer, "not a whole number from 0 to 1000000000", name);
    if (text_is(name, "defaults")) {
        *next = DEFAULTS;
        return true;
    }
    const Key *key = find(name);
    if (!key)
        return refuse(answer, "unknown key", name);
    if (value < key->least)
        return refuse(answer, "too small", name);
    *value_of(next, key) = value;
    return true;
}

static void show(Buffer *answer)
{
    buffer_text(answer, "{");
    for (size_t i = 0; i < KEY_COUNT; i++)
        buffer_print(answer, "%s\"%s\":%llu", i ? "," : "", KEYS[i].name,
                     (unsigned long long)*value_of(&config, &KEYS[i]));
    buffer_text(answer, "}");
}

/* All of the query or nothing; defaults=1 sets what is named before it back. */
bool config_set(Text query, Buffer *answer)
{
    Config next = config;
    const char *at = query.data;
    const char *end = query.data + query.len;
    while (at < end) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        if (!stop)
            stop = end;
        const char *equals = memchr(at, '=', (size_t)(stop - at));
        if (!equals)
            return refuse(answer, "no value", (Text){at, (size_t)(stop - at)});
        Text name = {at, (size_t)(equals - at)};
        Text value = {equals + 1, (size_t)(stop - equals - 1)};
        if (!set_one(&next, name, value, answer))
            return false;
        at = stop + 1;
    }
    if (next.jitter_us > next.itl_us)
        return refuse(answer, "must not be above itl_us", (Text){"jitter_us", 9});
    if (next.stall_ms && next.stall_every_ms <= next.stall_ms)
        return refuse(answer, "stall_every_ms must be above", (Text){"stall_ms", 8});
    config = next;
    show(answer);
    return true;
}

/* As much JSON as the bodies of requests need: walk it, take a few members, count words.
 * Nothing is unescaped; escapes matter only where they are white space. */
#include "reference_server.h"

#include <stdlib.h>
#include <string.h>

#define DEEPEST_PROMPT 8

typedef struct {
    const char *at;
    const char *end;
    bool bad;
} Json;

static char peek(Json *json)
{
    while (json->at < json->end && strchr(" \t\r\n", *json->at) && *json->at)
        json->at++;
    if (json->at < json->end && *json->at)
        return *json->at;
    json->bad = true;
    return '\0';
}

static bool take(Json *json, char wanted)
{
    if (json->bad || peek(json) != wanted)
        return false;
    json->at++;
    return true;
}

/* A string's inside, still escaped. */
static Text string(Json *json)
{
    if (!take(json, '"')) {
        json->bad = true;
        return (Text){"", 0};
    }
    const char *start = json->at;
    while (json->at < json->end && *json->at != '"')
        json->at += *json->at == '\\' ? 2 : 1;
    if (json->at >= json->end) {
        json->bad = true;
        return (Text){"", 0};
    }
    Text inside = {start, (size_t)(json->at - start)};
    json->at++;
    return inside;
}

static void skip_scalar(Json *json)
{
    const char *start = json->at;
    while (json->at < json->end && *json->at && !strchr(",:{}[]\" \t\r\n", *json->at))
        json->at++;
    if (json->at == start)
        json->bad = true;
}

/* Any value; without recursion, as bodies may nest deeply. */
static void skip(Json *json)
{
    size_t depth = 0;
    do {
        char next = peek(json);
        if (next == '"') {
            string(json);
        } else if (next == '{' || next == '[') {
            depth++;
            json->at++;
        } else if (depth && (next == '}' || next == ']')) {
            depth--;
            json->at++;
        } else if (depth && (next == ',' || next == ':')) {
            json->at++;
        } else if (next) {
            skip_scalar(json);
        }
    } while (depth && !json->bad);
}

/* The next key of an object that has been entered, or false at its end. */
static bool member(Json *json, Text *key)
{
    if (take(json, '}'))
        return false;
    take(json, ',');
    *key = string(json);
    if (!take(json, ':'))
        json->bad = true;
    return !json->bad;
}

static bool element(Json *json)
{
    if (take(json, ']'))
        return false;
    take(json, ',');
    peek(json);
    return !json->bad;
}

static uint64_t integer(Json *json)
{
    peek(json);
    const char *start = json->at;
    skip_scalar(json);
    char digits[24] = "";
    size_t len = (size_t)(json->at - start);
    if (json->bad || len >= sizeof digits || *start == '-')
        return 0;
    memcpy(digits, start, len);
    return strtoull(digits, NULL, 10);
}

static bool ground_truth(Json *json)
{
    bool is_true = peek(json) == 't';
    skip(json);
    return is_true;
}

/* White space at this place of an escaped string: its length there, or 0. */
static size_t blank(Text text, size_t at)
{
    static const char *const UNICODE[] = {"u0009", "u000a", "u000A", "u000b", "u000B",
                                          "u000c", "u000C", "u000d", "u000D", "u0020"};
    if (text.data[at] == ' ')
        return 1;
    if (text.data[at] != '\\' || at + 1 >= text.len)
        return 0;
    if (strchr("ntrf", text.data[at + 1]))
        return 2;
    Text rest = {text.data + at + 1, text.len - at - 1};
    for (size_t i = 0; i < sizeof UNICODE / sizeof *UNICODE; i++)
        if (text_starts(rest, UNICODE[i]))
            return 6;
    return 0;
}

/* FNV-1a, folded into the size of a small vocabulary. */
static uint32_t token_id(const char *word, size_t len)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)word[i]) * 16777619u;
    return hash % 32000;
}

static void add_token(Ask *ask, uint32_t id)
{
    ask->prompt_tokens++;
    if (ask->ids)
        buffer_print(ask->ids, "%s%u", ask->ids->len ? "," : "", id);
}

/* A token is a word between white space. */
static void count_words(Ask *ask, Text text)
{
    size_t at = 0;
    while (at < text.len) {
        size_t gap = blank(text, at);
        if (gap) {
            at += gap;
            continue;
        }
        size_t start = at;
        while (at < text.len && !blank(text, at))
            at += text.data[at] == '\\' ? 2 : 1;
        size_t stop = at < text.len ? at : text.len;
        add_token(ask, token_id(text.data + start, stop - start));
    }
}

/* A prompt: a string, token ids, messages, parts of a message, or lists of these. */
static void count_prompt(Ask *ask, Json *json, int depth)
{
    Text key;
    char next = peek(json);
    if (depth > DEEPEST_PROMPT) {
        json->bad = true;
    } else if (next == '"') {
        count_words(ask, string(json));
    } else if (take(json, '[')) {
        while (element(json))
            count_prompt(ask, json, depth + 1);
    } else if (take(json, '{')) {
        while (member(json, &key))
            if (text_is(key, "content") || text_is(key, "text"))
                count_prompt(ask, json, depth + 1);
            else
                skip(json);
    } else if (next >= '0' && next <= '9') {
        add_token(ask, (uint32_t)integer(json));
    } else {
        skip(json);
    }
}

static void read_model(Ask *ask, Json *json)
{
    if (peek(json) != '"') {
        skip(json);
        return;
    }
    Text name = string(json);
    if (name.len >= sizeof ask->model)
        name.len = sizeof ask->model - 1;
    memcpy(ask->model, name.data, name.len);
    ask->model[name.len] = '\0';
}

static bool is_prompt(Text key)
{
    return text_is(key, "messages") || text_is(key, "prompt") || text_is(key, "text") ||
           text_is(key, "input_ids") || text_is(key, "content");
}

static void read_members(Ask *ask, Json *json, int depth);

static void read_member(Ask *ask, Json *json, Text key, int depth)
{
    if (text_is(key, "model")) {
        read_model(ask, json);
    } else if (is_prompt(key)) {
        count_prompt(ask, json, 0);
    } else if (text_is(key, "max_completion_tokens") || text_is(key, "max_new_tokens")) {
        uint64_t tokens = integer(json);
        ask->tokens_forced = tokens > 0;
        if (tokens)
            ask->tokens = tokens;
    } else if (text_is(key, "max_tokens")) {
        uint64_t tokens = integer(json);
        if (!ask->tokens_forced)
            ask->tokens = tokens;
    } else if (text_is(key, "stream")) {
        ask->stream = ground_truth(json);
    } else if (text_is(key, "include_usage")) {
        ask->include_usage = ground_truth(json);
    } else if (text_is(key, "continuous_usage_stats")) {
        ask->continuous_usage = ground_truth(json);
    } else if (!depth && (text_is(key, "stream_options") || text_is(key, "sampling_params"))) {
        read_members(ask, json, depth + 1);
    } else {
        skip(json);
    }
}

static void read_members(Ask *ask, Json *json, int depth)
{
    Text key;
    if (!take(json, '{')) {
        skip(json);
        return;
    }
    while (member(json, &key))
        read_member(ask, json, key, depth);
}

/* False: the body is no JSON object. */
bool ask_read(Ask *ask, Text body)
{
    Json json = {body.data, body.data + body.len, false};
    strcpy(ask->model, "reference");
    if (peek(&json) != '{')
        return false;
    read_members(ask, &json, 0);
    return !json.bad;
}

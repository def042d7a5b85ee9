/* Which request gets which answer. Whatever is not listed here is answered {}. */
#include "reference_server.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const char JSON_TYPE[] = "application/json";

void respond(Connection *connection, const char *status, const char *type, const Buffer *body,
             const char *headers)
{
    static Buffer head;
    head.len = 0;
    buffer_print(&head,
                 "HTTP/1.1 %s\r\nserver: uvicorn\r\ncontent-type: %s\r\ncontent-length: %zu\r\n"
                 "%s\r\n",
                 status, type, body->len, headers);
    bool alive = connection_send(connection, head.data, head.len);
    if (alive && body->len)
        alive = connection_send(connection, body->data, body->len);
    if (!alive)
        connection_close(connection);
}

static void answer(Connection *connection, const char *status, const char *body)
{
    Buffer text = {(char *)body, strlen(body), 0};
    respond(connection, status, JSON_TYPE, &text, "");
}

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void print_stats(Buffer *out)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    buffer_print(out,
                 "{\"accepted\":%llu,\"requests\":%llu,\"chunks\":%llu,\"eagain\":%llu,"
                 "\"client_gone\":%llu,\"running\":%u,\"queued\":%u,\"cpu_user_s\":%.6f,"
                 "\"cpu_sys_s\":%.6f}",
                 (unsigned long long)counters.accepted, (unsigned long long)counters.requests,
                 (unsigned long long)counters.chunks, (unsigned long long)counters.eagain,
                 (unsigned long long)counters.client_gone, running, queued,
                 seconds(usage.ru_utime), seconds(usage.ru_stime));
}

static void configure(Connection *connection, Text target, Buffer *out)
{
    const char *query = memchr(target.data, '?', target.len);
    size_t path = query ? (size_t)(query + 1 - target.data) : target.len;
    bool good = config_set((Text){target.data + path, target.len - path}, out);
    schedule_stalls_from(now_ns());
    streams_start_queued();
    respond(connection, good ? "200 OK" : "400 Bad Request", JSON_TYPE, out, "");
}

static void forget(void)
{
    log_forget();
    metrics_forget();
    counters = (Counters){0};
}

/* /_reference/...: for whoever holds the reference server, not for the client under test. */
static void route_control(Connection *connection, Text target)
{
    static Buffer out;
    const char *type = JSON_TYPE;
    out.len = 0;
    if (text_starts(target, "/_reference/config")) {
        configure(connection, target, &out);
        return;
    }
    if (text_starts(target, "/_reference/dump")) {
        log_dump(&out);
        type = "application/octet-stream";
    } else if (text_starts(target, "/_reference/reset")) {
        forget();
        buffer_text(&out, "{}");
    } else {
        print_stats(&out);
    }
    respond(connection, "200 OK", type, &out, "");
}

static void tokenize(Connection *connection, const Ask *ask)
{
    Buffer out = {0};
    buffer_print(&out, "{\"tokens\":[");
    buffer_add(&out, ask->ids->data, ask->ids->len);
    buffer_print(&out, "],\"count\":%llu,\"max_model_len\":%d}",
                 (unsigned long long)ask->prompt_tokens, MAX_MODEL_LEN);
    respond(connection, "200 OK", JSON_TYPE, &out, "");
    buffer_free(&out);
}

static void unknown_model(Connection *connection, const Ask *ask)
{
    Buffer out = {0};
    buffer_print(&out,
                 "{\"object\":\"error\",\"message\":\"The model '%s' does not exist\","
                 "\"type\":\"NotFoundError\",\"param\":\"model\",\"code\":404}",
                 ask->model);
    respond(connection, "404 Not Found", JSON_TYPE, &out, "");
    buffer_free(&out);
}

static void route_ask(Connection *connection, Api api, const Ask *ask)
{
    counters.requests++;
    if (config.fail_every && counters.requests % config.fail_every == 0)
        answer(connection, "500 Internal Server Error",
               "{\"object\":\"error\",\"message\":\"injected\",\"type\":\"InternalServerError\","
               "\"code\":500}");
    else if (config.strict_model && api != GENERATE && strcmp(ask->model, "reference"))
        unknown_model(connection, ask);
    else
        stream_ask(connection, api, ask);
}

static void route_post(Connection *connection, const HttpRequest *request)
{
    static Buffer ids;
    Ask ask = {0};
    Text target = request->target;
    ids.len = 0;
    if (text_starts(target, "/tokenize"))
        ask.ids = &ids;
    bool chat = text_starts(target, "/v1/chat/completions");
    bool completion = text_starts(target, "/v1/completions");
    if (!ask.ids && !chat && !completion && !text_starts(target, "/generate"))
        answer(connection, "200 OK", "{}");
    else if (!ask_read(&ask, request->body))
        answer(connection, "400 Bad Request",
               "{\"object\":\"error\",\"message\":\"the body is not a JSON object\","
               "\"type\":\"BadRequestError\",\"param\":null,\"code\":400}");
    else if (ask.ids)
        tokenize(connection, &ask);
    else
        route_ask(connection, chat ? CHAT : completion ? COMPLETION : GENERATE, &ask);
}

static void route_metrics(Connection *connection)
{
    static Buffer out;
    out.len = 0;
    metrics_print(&out);
    respond(connection, "200 OK", "text/plain; version=0.0.4; charset=utf-8", &out, "");
}

static void route_get(Connection *connection, Text target)
{
    static const char MODELS[] =
        "{\"object\":\"list\",\"data\":[{\"id\":\"reference\",\"object\":\"model\",\"created\":1,"
        "\"owned_by\":\"sglang\",\"root\":\"reference\",\"parent\":null,\"max_model_len\":131072}]}";
    static const char INFO[] =
        "{\"model_path\":\"reference\",\"tokenizer_path\":\"reference\",\"served_model_name\":\"reference\","
        "\"is_generation\":true,\"internal_states\":[{}],\"version\":\"0.5.23\"}";
    static const char DRAFTS_INFO[] =
        "{\"model_path\":\"reference\",\"tp_size\":1,\"speculative_algorithm\":\"EAGLE\","
        "\"stream_interval\":1,\"internal_states\":[{}],\"version\":\"0.5.23\"}";
    if (text_starts(target, "/v1/models"))
        answer(connection, "200 OK", MODELS);
    else if (text_starts(target, "/metrics"))
        route_metrics(connection);
    else if (text_starts(target, "/server_info") || text_starts(target, "/get_server_info") ||
             text_starts(target, "/model_info") || text_starts(target, "/get_model_info"))
        answer(connection, "200 OK", config.drafts ? DRAFTS_INFO : INFO);
    else
        answer(connection, "200 OK", "{}");
}

void route(Connection *connection, const HttpRequest *request)
{
    if (text_starts(request->target, "/_reference/"))
        route_control(connection, request->target);
    else if (text_is(request->method, "POST"))
        route_post(connection, request);
    else
        route_get(connection, request->target);
}

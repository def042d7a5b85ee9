/* One answer's life: asked, queued, started, emitting, finished. */
#include "reference_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TOKENS 100000
#define BURST_BYTES ((size_t)1 << 19)

uint32_t running;
uint32_t queued;

static uint32_t next_id;
static Stream *queue_first;
static Stream *queue_last;
static Buffer frame; /* what is being sent */

static uint32_t at_most(uint64_t value, uint64_t limit)
{
    return (uint32_t)(value < limit ? value : limit);
}

uint32_t stream_visible(const Stream *stream)
{
    return stream->tokens - stream->hidden;
}

/* Visible tokens before a chunk. */
uint32_t stream_tokens_before(const Stream *stream, uint32_t chunk)
{
    uint64_t most = stream->per_chunk, before = chunk * most;
    if (stream->flags & DRAFTS) {
        uint64_t rest = chunk % most;
        before = chunk / most * (most * (most + 1) / 2) + rest * (rest + 1) / 2;
    }
    return at_most(before, stream_visible(stream));
}

uint32_t stream_tokens_in(const Stream *stream, uint32_t chunk)
{
    return stream_tokens_before(stream, chunk + 1) - stream_tokens_before(stream, chunk);
}

/* Generated so far when so many chunks are out: what continuous usage says. */
uint32_t stream_tokens_after(const Stream *stream, uint32_t chunks)
{
    return stream->hidden + stream_tokens_before(stream, chunks);
}

static bool send_frame(Stream *stream)
{
    if (config.split)
        return connection_send_split(stream->connection, frame.data, frame.len);
    return connection_send(stream->connection, frame.data, frame.len);
}

static void queue_add(Stream *stream)
{
    stream->place = QUEUED;
    stream->queue_next = NULL;
    if (queue_last)
        queue_last->queue_next = stream;
    else
        queue_first = stream;
    queue_last = stream;
    queued++;
}

static void queue_remove(Stream *stream)
{
    Stream *before = NULL;
    Stream *at = queue_first;
    while (at != stream) {
        before = at;
        at = at->queue_next;
    }
    if (before)
        before->queue_next = stream->queue_next;
    else
        queue_first = stream->queue_next;
    if (queue_last == stream)
        queue_last = before;
    stream->place = NOWHERE;
    queued--;
}

/* Off its connection and out of all lists; its slot goes to the next in the queue. */
static void retire(Stream *stream)
{
    stream->flags |= FINISHED;
    if (stream->place == QUEUED)
        queue_remove(stream);
    else
        schedule_remove(stream);
    if (stream->started_ns)
        running--;
    stream->connection->stream = NULL;
    stream->connection = NULL;
    buffer_free(&stream->head);
    buffer_free(&stream->text);
    streams_start_queued();
}

void stream_gone(Stream *stream)
{
    stream->flags |= CLIENT_GONE;
    counters.client_gone++;
    retire(stream);
}

/* The last bytes of an answer, and on to the connection's next request. */
static void finish(Stream *stream)
{
    Connection *connection = stream->connection;
    frame.len = 0;
    event_end(&frame, stream);
    stream->done_ns = now_ns();
    bool alive = send_frame(stream);
    metrics_finished(stream);
    retire(stream);
    if (alive)
        connection_idle(connection);
    else
        connection_close(connection);
}

static void cut(Stream *stream)
{
    Connection *connection = stream->connection;
    retire(stream);
    connection_close(connection);
}

static void fail(Stream *stream)
{
    frame.len = 0;
    event_error(&frame);
    if (send_frame(stream))
        finish(stream);
    else
        connection_close(stream->connection);
}

/* False: the client is gone. */
static bool send_role(Stream *stream)
{
    stream->role_ns = now_ns();
    if (stream->api != CHAT)
        return true;
    frame.len = 0;
    event_role(&frame, stream);
    if (send_frame(stream))
        return true;
    connection_close(stream->connection);
    return false;
}

static void emit_hidden(Stream *stream)
{
    if (!stream->role_ns && !send_role(stream))
        return;
    metrics_step(stream, now_ns(), 1);
    stream->hidden_left--;
    if (!stream->hidden_left && !stream->chunks)
        finish(stream);
}

static void stamp(Stream *stream, uint32_t first)
{
    uint64_t now = now_ns();
    for (uint32_t i = first; i < stream->sent; i++) {
        stream->sent_ns[i] = now;
        metrics_step(stream, now, stream_tokens_in(stream, i));
    }
    counters.chunks += stream->sent - first;
}

static void emit_chunks(Stream *stream, uint64_t limit)
{
    uint32_t first = stream->sent;
    frame.len = 0;
    while (stream->sent < limit && frame.len < BURST_BYTES)
        event_content(&frame, stream, stream->sent++);
    stamp(stream, first);
    if (!send_frame(stream)) {
        connection_close(stream->connection);
        return;
    }
    stream->blocked += stream->connection->waiting;
    uint64_t left = connection_left(stream->connection) ? now_ns() : 0;
    for (uint32_t i = first; i < stream->sent; i++)
        stream->left_ns[i] = left;
    if (stream->sent == stream->chunks)
        finish(stream);
}

/* The next step: a hidden token, up to `count` chunks in one send, or the fault that is due. */
void stream_emit(Stream *stream, uint64_t count)
{
    bool faulty = stream->flags & (CUT | ERROR_EVENT);
    uint32_t last = faulty ? stream->chunks / 2 : stream->chunks;
    if (stream->hidden_left)
        emit_hidden(stream);
    else if (!stream->role_ns && !send_role(stream))
        return;
    else if (faulty && stream->sent >= last && stream->flags & CUT)
        cut(stream);
    else if (faulty && stream->sent >= last)
        fail(stream);
    else
        emit_chunks(stream, at_most(stream->sent + count, last));
}

static void send_whole(Connection *connection, const Stream *stream, Buffer *body)
{
    char headers[64];
    snprintf(headers, sizeof headers, "x-reference-id: %u\r\n", stream->id);
    if (stream->flags & ERROR_EVENT) {
        body->len = 0;
        buffer_text(body, "{\"object\":\"error\",\"message\":\"injected\","
                          "\"type\":\"InternalServerError\",\"code\":500}");
        respond(connection, "500 Internal Server Error", "application/json", body, headers);
        return;
    }
    respond(connection, "200 OK", "application/json", body, headers);
}

/* An answer that was not to be streamed. */
void stream_answer_whole(Stream *stream)
{
    Connection *connection = stream->connection;
    if (stream->flags & CUT) {
        cut(stream);
        return;
    }
    Buffer body = {0};
    whole_answer(&body, stream);
    stream->done_ns = now_ns();
    metrics_finished(stream);
    retire(stream);
    send_whole(connection, stream, &body);
    buffer_free(&body);
    connection_idle(connection);
}

static void start(Stream *stream)
{
    running++;
    stream->started_ns = now_ns();
    metrics_started(stream);
    schedule_start(stream);
    if (config.role_early && !(stream->flags & NOT_STREAMED))
        send_role(stream);
}

void streams_start_queued(void)
{
    while (queue_first && (!config.max_running || running < config.max_running)) {
        Stream *stream = queue_first;
        queue_remove(stream);
        start(stream);
    }
}

/* Leaves with the first bytes of the body, as SGLang's: it waits for the first chunk. */
static void add_response_head(Connection *connection, const Stream *stream)
{
    buffer_print(&connection->out,
                 "HTTP/1.1 200 OK\r\ndate: Sat, 23 Nov 2024 07:00:00 GMT\r\nserver: uvicorn\r\n"
                 "x-reference-id: %u\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                 "transfer-encoding: chunked\r\n\r\n",
                 stream->id);
}

static bool every(uint64_t period)
{
    return period && counters.requests % period == 0;
}

static uint32_t flags_for(const Ask *ask, uint64_t tokens)
{
    uint32_t flags = 0;
    flags |= ask->include_usage ? WITH_USAGE : 0;
    flags |= ask->continuous_usage ? CONTINUOUS_USAGE : 0;
    flags |= ask->stream ? 0 : NOT_STREAMED;
    flags |= every(config.cut_every) ? CUT : 0;
    flags |= every(config.err_every) ? ERROR_EVENT : 0;
    flags |= every(config.slow_one) ? SLOW : 0;
    flags |= config.drafts ? DRAFTS : 0;
    flags |= config.stop_at && tokens > config.stop_at ? STOPPED_EARLY : 0;
    return flags;
}

static void set_lengths(Stream *stream, uint64_t tokens)
{
    if (stream->flags & STOPPED_EARLY)
        tokens = config.stop_at;
    stream->tokens = (uint32_t)tokens;
    stream->hidden = stream->hidden_left = at_most(config.hidden, tokens);
    stream->per_chunk = at_most(config.k, MOST_TOKENS);
    stream->chunks = (stream_visible(stream) + stream->per_chunk - 1) / stream->per_chunk;
    while (stream_tokens_before(stream, stream->chunks) < stream_visible(stream))
        stream->chunks++;
    stream->reasoning = at_most(config.reasoning, stream->chunks);
    stream->sent_ns = zeroed((stream->chunks + 1) * sizeof *stream->sent_ns);
    stream->left_ns = zeroed((stream->chunks + 1) * sizeof *stream->left_ns);
}

void stream_ask(Connection *connection, Api api, const Ask *ask)
{
    Stream *stream = zeroed(sizeof *stream);
    uint64_t tokens = at_most(ask->tokens ? ask->tokens : config.default_tokens, MOST_TOKENS);
    stream->id = next_id++;
    stream->api = api;
    stream->flags = flags_for(ask, tokens);
    stream->slow_left = stream->flags & SLOW;
    stream->prompt_tokens = at_most(ask->prompt_tokens, UINT32_MAX);
    stream->earlier = connection->requests - 1;
    stream->accepted_ns = connection->accepted_ns;
    stream->received_ns = connection->received_ns;
    stream->asked_ns = now_ns();
    stream->connection = connection;
    connection->stream = stream;
    strcpy(stream->model, ask->model);
    snprintf(stream->request_id, sizeof stream->request_id, "%032x", stream->id);
    set_lengths(stream, tokens);
    event_head(stream);
    log_add(stream);
    if (ask->stream)
        add_response_head(connection, stream);
    queue_add(stream);
    streams_start_queued();
}

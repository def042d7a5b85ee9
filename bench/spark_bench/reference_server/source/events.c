/* The bytes of each event: those of SGLang 0.5.23 (sse_utils.py), one HTTP chunk per event. */
#include "reference_server.h"

#include <string.h>
#include <time.h>

static Buffer event; /* being built */

static void frame_event(Buffer *out)
{
    buffer_print(out, "%zx\r\n", event.len);
    buffer_add(out, event.data, event.len);
    buffer_add(out, "\r\n", 2);
    event.len = 0;
}

static void add_words(Buffer *out, uint32_t first, uint32_t count)
{
    buffer_room(out, count * (size_t)5);
    for (uint32_t i = 0; i < count; i++) {
        char *at = out->data + out->len;
        uint32_t word = (first + i) % 1000;
        *at++ = ' ';
        *at++ = 'w';
        if (word >= 100)
            *at++ = (char)('0' + word / 100);
        if (word >= 10)
            *at++ = (char)('0' + word / 10 % 10);
        *at++ = (char)('0' + word % 10);
        out->len = (size_t)(at - out->data);
    }
    out->data[out->len] = '\0';
}

static const char *finish_reason(const Stream *stream)
{
    return stream->flags & STOPPED_EARLY ? "stop" : "length";
}

static void add_usage(Buffer *out, const Stream *stream, uint32_t tokens)
{
    uint32_t reasoning = stream_tokens_before(stream, stream->reasoning);
    buffer_print(out,
                 "{\"prompt_tokens\":%u,\"total_tokens\":%u,\"completion_tokens\":%u,"
                 "\"prompt_tokens_details\":null,\"reasoning_tokens\":%u}",
                 stream->prompt_tokens, stream->prompt_tokens + tokens, tokens,
                 reasoning < tokens ? reasoning : tokens);
}

void event_head(Stream *stream)
{
    static time_t created;
    if (!created)
        created = time(NULL);
    buffer_print(&stream->head,
                 "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":\"%s\","
                 "\"choices\":[",
                 stream->request_id,
                 stream->api == COMPLETION ? "text_completion" : "chat.completion.chunk",
                 (long long)created, stream->model);
}

static void add_head(const Stream *stream)
{
    buffer_add(&event, stream->head.data, stream->head.len);
}

void event_role(Buffer *out, const Stream *stream)
{
    add_head(stream);
    buffer_text(&event, "{\"index\":0,\"delta\":{\"reasoning_content\":null,\"role\":\"assistant\","
                        "\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null,"
                        "\"matched_stop\":null}]}\n\n");
    frame_event(out);
}

/* The native API repeats the whole text so far in each event. */
static void add_native(Stream *stream, uint32_t chunk)
{
    uint32_t tokens = stream_tokens_in(stream, chunk);
    add_words(&stream->text, stream_tokens_before(stream, chunk), tokens);
    buffer_text(&event, "data: {\"text\":\"");
    buffer_add(&event, stream->text.data, stream->text.len);
    buffer_print(&event, "\",\"output_ids\":[%u],\"meta_info\":{\"id\":\"%s\",\"finish_reason\":",
                 chunk, stream->request_id);
    if (chunk + 1 < stream->chunks)
        buffer_text(&event, "null");
    else if (stream->flags & STOPPED_EARLY)
        buffer_text(&event, "{\"type\":\"stop\",\"matched\":2}");
    else
        buffer_print(&event, "{\"type\":\"length\",\"length\":%u}", stream->tokens);
    buffer_print(&event,
                 ",\"prompt_tokens\":%u,\"weight_version\":\"default\",\"completion_tokens\":%u,"
                 "\"cached_tokens\":0,\"e2e_latency\":null}}\n\n",
                 stream->prompt_tokens, stream_tokens_after(stream, chunk + 1));
}

static void add_delta(const Stream *stream, uint32_t chunk)
{
    static const char END[] = "\",\"logprobs\":null,\"finish_reason\":null,\"matched_stop\":null}]";
    static const char DELTA_END[] =
        "\"},\"logprobs\":null,\"finish_reason\":null,\"matched_stop\":null}]";
    add_head(stream);
    if (stream->api == COMPLETION)
        buffer_text(&event, "{\"index\":0,\"text\":\"");
    else if (chunk < stream->reasoning)
        buffer_text(&event, "{\"index\":0,\"delta\":{\"reasoning_content\":\"");
    else
        buffer_text(&event, "{\"index\":0,\"delta\":{\"reasoning_content\":null,\"content\":\"");
    add_words(&event, stream_tokens_before(stream, chunk), stream_tokens_in(stream, chunk));
    buffer_text(&event, stream->api == COMPLETION ? END : DELTA_END);
    if (stream->flags & CONTINUOUS_USAGE) {
        buffer_text(&event, ",\"usage\":");
        add_usage(&event, stream, stream_tokens_after(stream, chunk + 1));
    }
    buffer_text(&event, "}\n\n");
}

void event_content(Buffer *out, Stream *stream, uint32_t chunk)
{
    if (stream->api == GENERATE)
        add_native(stream, chunk);
    else
        add_delta(stream, chunk);
    frame_event(out);
}

void event_error(Buffer *out)
{
    buffer_text(&event, "data: {\"error\":{\"message\":\"injected\","
                        "\"type\":\"InternalServerError\",\"code\":500}}\n\n");
    frame_event(out);
}

static void add_finish(const Stream *stream)
{
    add_head(stream);
    if (stream->api == COMPLETION)
        buffer_text(&event, "{\"index\":0,\"text\":\"\"");
    else
        buffer_text(&event, "{\"index\":0,\"delta\":{\"reasoning_content\":null}");
    buffer_print(&event, ",\"logprobs\":null,\"finish_reason\":\"%s\",\"matched_stop\":%s}]}\n\n",
                 finish_reason(stream), stream->flags & STOPPED_EARLY ? "2" : "null");
}

/* The finish_reason, the usage, [DONE] and the end of the chunked body. */
void event_end(Buffer *out, const Stream *stream)
{
    if (stream->api != GENERATE && !(stream->flags & ERROR_EVENT)) {
        add_finish(stream);
        frame_event(out);
        if (stream->flags & WITH_USAGE) {
            add_head(stream);
            buffer_text(&event, "],\"usage\":");
            add_usage(&event, stream, stream->tokens);
            buffer_text(&event, "}\n\n");
            frame_event(out);
        }
    }
    buffer_text(&event, "data: [DONE]\n\n");
    frame_event(out);
    buffer_text(out, "0\r\n\r\n");
}

static void whole_native(Buffer *out, const Stream *stream)
{
    buffer_text(out, "{\"text\":\"");
    add_words(out, 0, stream_visible(stream));
    buffer_print(out,
                 "\",\"meta_info\":{\"id\":\"%s\",\"finish_reason\":{\"type\":\"%s\"},"
                 "\"prompt_tokens\":%u,\"completion_tokens\":%u}}",
                 stream->request_id, finish_reason(stream), stream->prompt_tokens,
                 stream->tokens);
}

void whole_answer(Buffer *out, const Stream *stream)
{
    if (stream->api == GENERATE) {
        whole_native(out, stream);
        return;
    }
    bool chat = stream->api == CHAT;
    buffer_print(out, "{\"id\":\"%s\",\"object\":\"%s\",\"model\":\"%s\",\"choices\":[{\"index\":0,%s",
                 stream->request_id, chat ? "chat.completion" : "text_completion", stream->model,
                 chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"" : "\"text\":\"");
    add_words(out, 0, stream_visible(stream));
    buffer_print(out, "\"%s,\"finish_reason\":\"%s\"}],\"usage\":", chat ? "}" : "",
                 finish_reason(stream));
    add_usage(out, stream, stream->tokens);
    buffer_text(out, "}");
}

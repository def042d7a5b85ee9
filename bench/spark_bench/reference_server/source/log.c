/* What was really sent, and when. A stream stays here until it is forgotten. */
#include "reference_server.h"

#include <stdlib.h>

static Stream **log_entries;
static size_t log_len;
static size_t log_cap;

void log_add(Stream *stream)
{
    if (log_len == log_cap) {
        log_cap = log_cap ? log_cap * 2 : 1024;
        log_entries = grow(log_entries, log_cap * sizeof *log_entries);
    }
    log_entries[log_len++] = stream;
}

/* Finished streams go, those under way stay in the log. */
void log_forget(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < log_len; i++) {
        Stream *stream = log_entries[i];
        if (!(stream->flags & FINISHED)) {
            log_entries[kept++] = stream;
            continue;
        }
        free(stream->sent_ns);
        free(stream->left_ns);
        free(stream);
    }
    log_len = kept;
}

/* streams.py's RECORD is this. */
typedef struct {
    uint32_t id, flags, chunks, sent, per_chunk, tokens, hidden, reasoning;
    uint32_t prompt_tokens, earlier, blocked, api;
    uint64_t accepted_ns, received_ns, asked_ns, started_ns, role_ns, done_ns;
} Record;

void log_dump(Buffer *out)
{
    for (size_t i = 0; i < log_len; i++) {
        const Stream *stream = log_entries[i];
        Record record = {
            .id = stream->id,
            .flags = stream->flags,
            .chunks = stream->chunks,
            .sent = stream->sent,
            .per_chunk = stream->per_chunk,
            .tokens = stream->tokens,
            .hidden = stream->hidden,
            .reasoning = stream->reasoning,
            .prompt_tokens = stream->prompt_tokens,
            .earlier = stream->earlier,
            .blocked = stream->blocked,
            .api = stream->api,
            .accepted_ns = stream->accepted_ns,
            .received_ns = stream->received_ns,
            .asked_ns = stream->asked_ns,
            .started_ns = stream->started_ns,
            .role_ns = stream->role_ns,
            .done_ns = stream->done_ns,
        };
        size_t stamps = stream->flags & NOT_STREAMED ? 0 : stream->sent;
        record.sent = (uint32_t)stamps;
        buffer_add(out, &record, sizeof record);
        buffer_add(out, stream->sent_ns, stamps * sizeof *stream->sent_ns);
        buffer_add(out, stream->left_ns, stamps * sizeof *stream->left_ns);
    }
}

/* The reference server: a server that speaks the streaming API of an SGLang server and logs, for each chunk,
 * the CLOCK_MONOTONIC nanosecond at which it was handed to the kernel.
 *
 * One thread, one epoll loop:
 *   main.c        options, the listening socket, the loop
 *   connection.c  sockets: read, write, close
 *   http.c        bytes -> requests (Content-Length, chunked, Expect)
 *   json.c        as much JSON as request bodies need
 *   routes.c      which request gets which answer
 *   stream.c      one answer's life: asked, queued, started, emitting, finished
 *   log.c         what was sent when
 *   schedule.c    when each stream emits; engine pauses
 *   events.c      the bytes of each event, those of SGLang 0.5.23
 *   metrics.c     /metrics
 *   config.c      what can be set over HTTP
 *   buffer.c      growing memory
 */
#ifndef REFERENCE_SERVER_H
#define REFERENCE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull
#define MAX_MODEL_LEN 131072
#define MODEL_NAME_SIZE 128
#define NEVER UINT64_MAX

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- buffer.c ------------------------------------------------------------------------------ */

typedef struct {
    char *data;
    size_t len;
    size_t cap;
} Buffer;

typedef struct {
    const char *data;
    size_t len;
} Text;

void die(const char *what);
void *grow(void *memory, size_t bytes);
void *zeroed(size_t bytes);
void buffer_room(Buffer *buffer, size_t more);
void buffer_add(Buffer *buffer, const void *data, size_t len);
void buffer_text(Buffer *buffer, const char *text);
void buffer_print(Buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_free(Buffer *buffer);
bool text_starts(Text text, const char *prefix);
bool text_is(Text text, const char *word);

/* ---- config.c ------------------------------------------------------------------------------ */

typedef struct {
    uint64_t ttft_us;        /* to the first token, from the start of the request's work */
    uint64_t itl_us;         /* between chunks; 0: as fast as possible */
    uint64_t ttft_per_in_us; /* added to ttft_us for each prompt token (a prefill) */
    uint64_t step;           /* 1: all streams emit together on one decode clock, as engines do */
    uint64_t k;              /* tokens in a chunk (stream_interval) */
    uint64_t drafts;         /* 1: speculative decoding: chunks have 1, 2, ... k tokens in turn */
    uint64_t hidden;         /* the first N tokens are invisible (harmony's channel tokens) */
    uint64_t reasoning;      /* the first N chunks are reasoning_content */
    uint64_t role_early;     /* 1: the role chunk leaves at once, not with the first token */
    uint64_t default_tokens; /* answer length where the request names none */
    uint64_t stop_at;        /* >0: the model stops after N tokens, whatever was asked */
    uint64_t max_running;    /* >0: further requests wait in a FIFO queue */
    uint64_t burst;          /* itl_us 0: events per send() */
    uint64_t split;          /* 1: each event leaves in two send()s */
    uint64_t fail_every;     /* every Nth request: HTTP 500 */
    uint64_t cut_every;      /* every Nth request: connection closed half way */
    uint64_t err_every;      /* every Nth request: an error event half way, then [DONE] */
    uint64_t stall_every_ms; /* every N ms all streams pause ... */
    uint64_t stall_ms;       /* ... for so long */
    uint64_t slow_one;       /* every Nth request has one longer gap in its middle ... */
    uint64_t slow_ms;        /* ... longer by this */
    uint64_t jitter_us;      /* each gap is up to so much shorter or longer */
    uint64_t heavy_permille; /* so many of a thousand gaps are longer ... */
    uint64_t heavy_us;       /* ... by this */
    uint64_t together;       /* paced: events per send(), at so many gaps from the last */
    uint64_t strict_model;   /* 1: a model other than "reference" is answered 404 */
} Config;

extern Config config;

bool config_set(Text query, Buffer *answer);

/* ---- json.c -------------------------------------------------------------------------------- */

/* What a request's body asks for. ids: where wanted, the prompt's token ids are listed there. */
typedef struct {
    char model[MODEL_NAME_SIZE];
    uint64_t tokens;
    uint64_t prompt_tokens;
    bool tokens_forced; /* by a key that goes before max_tokens */
    bool stream;
    bool include_usage;
    bool continuous_usage;
    Buffer *ids;
} Ask;

bool ask_read(Ask *ask, Text body);

/* ---- connection.c -------------------------------------------------------------------------- */

typedef struct Stream Stream;

typedef struct Connection {
    int fd;
    Buffer in;
    Buffer out;
    size_t out_sent;
    uint64_t accepted_ns;
    uint64_t received_ns; /* by the kernel: the request under way */
    uint32_t requests;
    bool waiting;     /* for the socket to take more */
    bool continued;   /* 100 Continue has been sent for the request under way */
    bool close_after; /* the client asked for it */
    bool dead;        /* closed; freed at the end of the loop's turn, as events may name it */
    Stream *stream;   /* being answered */
    struct Connection *next_dead;
} Connection;

typedef struct {
    uint64_t accepted;
    uint64_t requests;
    uint64_t chunks;
    uint64_t eagain;
    uint64_t client_gone;
} Counters;

extern Counters counters;
extern int poller;

void connections_accept(int listener);
void connection_read(Connection *connection);
bool connection_left(const Connection *connection);
bool connection_flush(Connection *connection);
bool connection_send(Connection *connection, const char *data, size_t len);
bool connection_send_split(Connection *connection, const char *data, size_t len);
void connection_idle(Connection *connection);
void connection_close(Connection *connection);
void connections_bury(void);

/* ---- http.c, routes.c ---------------------------------------------------------------------- */

typedef struct {
    Text method;
    Text target;
    Text body;
} HttpRequest;

void http_serve(Connection *connection);
void route(Connection *connection, const HttpRequest *request);
void respond(Connection *connection, const char *status, const char *type, const Buffer *body,
             const char *headers);

/* ---- stream.c ------------------------------------------------------------------------------ */

typedef enum { CHAT, COMPLETION, GENERATE } Api;
typedef enum { NOWHERE, QUEUED, TIMED, ACTIVE } Place;

/* Stream.flags, as the dump shows them. */
enum {
    WITH_USAGE = 1,
    CONTINUOUS_USAGE = 2,
    NOT_STREAMED = 4,
    FINISHED = 8,
    CUT = 32,
    ERROR_EVENT = 64,
    CLIENT_GONE = 128,
    STOPPED_EARLY = 256,
    SLOW = 512,
    DRAFTS = 1024,
};

struct Stream {
    uint32_t id;
    Api api;
    uint32_t flags;
    uint32_t chunks;    /* with visible tokens */
    uint32_t sent;      /* of them */
    uint32_t per_chunk; /* tokens; with DRAFTS the most */
    uint32_t tokens;    /* of the whole answer, hidden ones included */
    uint32_t hidden;
    uint32_t hidden_left;
    uint32_t reasoning; /* chunks */
    uint32_t prompt_tokens;
    uint32_t earlier;   /* requests on this connection before */
    uint32_t blocked;   /* times that the socket took no more */
    uint64_t accepted_ns;
    uint64_t received_ns; /* by the kernel */
    uint64_t asked_ns;
    uint64_t started_ns; /* out of the queue */
    uint64_t role_ns;    /* role chunk; where there is none, the first step */
    uint64_t done_ns;
    uint64_t last_step_ns;
    uint64_t due_ns;
    uint64_t *sent_ns;   /* of each chunk: just before it is sent */
    uint64_t *left_ns;   /* just after it has left; 0: the kernel has kept some of it */
    char model[MODEL_NAME_SIZE];
    char request_id[33];
    bool slow_left;
    Place place;
    size_t position;     /* in its list */
    Stream *queue_next;
    Connection *connection;
    Buffer head;         /* what all its events start with */
    Buffer text;         /* so far (native API: each event has all of it) */
};

extern uint32_t running;
extern uint32_t queued;

void stream_ask(Connection *connection, Api api, const Ask *ask);
void stream_emit(Stream *stream, uint64_t count);
void stream_answer_whole(Stream *stream);
void stream_gone(Stream *stream);
void streams_start_queued(void);
uint32_t stream_visible(const Stream *stream);
uint32_t stream_tokens_before(const Stream *stream, uint32_t chunk);
uint32_t stream_tokens_in(const Stream *stream, uint32_t chunk);
uint32_t stream_tokens_after(const Stream *stream, uint32_t chunks);

/* ---- log.c --------------------------------------------------------------------------------- */

void log_add(Stream *stream);
void log_forget(void);
void log_dump(Buffer *out);

/* ---- schedule.c ---------------------------------------------------------------------------- */

void schedule_start(Stream *stream);
void schedule_remove(Stream *stream);
void schedule_stalls_from(uint64_t now);
uint64_t schedule_next(void);
void schedule_run(void);
uint64_t schedule_held_tokens(void);
uint64_t schedule_after(uint64_t from, uint64_t gap);

/* ---- events.c ------------------------------------------------------------------------------ */

void event_head(Stream *stream);
void event_role(Buffer *out, const Stream *stream);
void event_content(Buffer *out, Stream *stream, uint32_t chunk);
void event_error(Buffer *out);
void event_end(Buffer *out, const Stream *stream);
void whole_answer(Buffer *out, const Stream *stream);

/* ---- metrics.c ----------------------------------------------------------------------------- */

void metrics_started(const Stream *stream);
void metrics_step(Stream *stream, uint64_t now, uint32_t tokens);
void metrics_finished(const Stream *stream);
void metrics_forget(void);
void metrics_print(Buffer *out);

#endif

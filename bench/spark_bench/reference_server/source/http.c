/* Bytes to requests. One at a time: what is sent ahead waits until its turn. */
#define _GNU_SOURCE
#include "reference_server.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MOST_HEAD ((size_t)1 << 20)
#define MOST_BODY ((size_t)1 << 28)

typedef struct {
    size_t length;
    bool chunked;
    bool expects;
    bool closes;
} Head;

static bool header_is(const char *line, const char *start)
{
    return !strncasecmp(line, start, strlen(start));
}

static Head read_head(const char *head, size_t len)
{
    Head found = {0};
    const char *end = head + len;
    for (const char *line = head; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop)
            break;
        if (header_is(line, "content-length:"))
            found.length = strtoull(line + 15, NULL, 10);
        else if (header_is(line, "transfer-encoding: chunked"))
            found.chunked = true;
        else if (header_is(line, "expect: 100"))
            found.expects = true;
        else if (header_is(line, "connection: close"))
            found.closes = true;
        line = stop + 1;
    }
    const char *first_end = memchr(head, '\n', len);
    if (first_end && first_end - head >= 10 && !memcmp(first_end - 9, "HTTP/1.0", 8))
        found.closes = true;
    return found;
}

/* Joins a chunked body; the bytes it took, 0 while it is incomplete. */
static size_t read_chunked(Text raw, Buffer *body)
{
    const char *at = raw.data;
    const char *end = raw.data + raw.len;
    body->len = 0;
    while (at < end) {
        const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
        if (!line_end)
            return 0;
        size_t size = strtoull(at, NULL, 16);
        const char *data = line_end + 2;
        if (size > (size_t)(end - data) || (size_t)(end - data) - size < 2)
            return 0;
        if (!size)
            return (size_t)(data + 2 - raw.data);
        buffer_add(body, data, size);
        at = data + size + 2;
    }
    return 0;
}

static bool split_first_line(Text head, HttpRequest *request)
{
    const char *line_end = memchr(head.data, '\r', head.len);
    const char *space = memchr(head.data, ' ', (size_t)(line_end - head.data));
    if (!space)
        return false;
    const char *target = space + 1;
    const char *stop = memchr(target, ' ', (size_t)(line_end - target));
    if (!stop)
        return false;
    request->method = (Text){head.data, (size_t)(space - head.data)};
    request->target = (Text){target, (size_t)(stop - target)};
    return true;
}

static void refuse(Connection *connection, const char *status)
{
    static const Buffer NOTHING;
    connection->close_after = true;
    respond(connection, status, "text/plain", &NOTHING, "");
    connection_idle(connection);
}

static void invite_body(Connection *connection)
{
    static const char GO_ON[] = "HTTP/1.1 100 Continue\r\n\r\n";
    connection->continued = true;
    connection_send(connection, GO_ON, sizeof GO_ON - 1);
}

static void drop_read(Connection *connection, size_t len)
{
    Buffer *in = &connection->in;
    memmove(in->data, in->data + len, in->len - len + 1);
    in->len -= len;
}

/* The body once it is whole, and the bytes it took; false: more has to come. */
static bool read_body(Text rest, Head head, Text *body, size_t *used)
{
    static Buffer joined;
    if (!head.chunked) {
        *body = (Text){rest.data, head.length};
        *used = head.length;
        return rest.len >= head.length;
    }
    *used = read_chunked(rest, &joined);
    *body = (Text){joined.data, joined.len};
    return *used > 0;
}

static void serve_request(Connection *connection, Text head, Head parsed, Text body)
{
    HttpRequest request = {.body = body};
    if (!split_first_line(head, &request)) {
        refuse(connection, "400 Bad Request");
        return;
    }
    connection->continued = false;
    connection->close_after = parsed.closes;
    connection->requests++;
    route(connection, &request);
    if (!connection->stream && connection->close_after)
        connection_idle(connection);
}

/* Serves the next whole request; false: there is none. */
static bool serve_one(Connection *connection)
{
    Buffer *in = &connection->in;
    const char *blank_line = in->len ? memmem(in->data, in->len, "\r\n\r\n", 4) : NULL;
    if (!blank_line) {
        if (in->len > MOST_HEAD)
            refuse(connection, "431 Request Header Fields Too Large");
        return false;
    }
    size_t head_len = (size_t)(blank_line - in->data) + 4;
    Head head = read_head(in->data, head_len);
    Text rest = {in->data + head_len, in->len - head_len};
    Text body;
    size_t used;
    if (head.length > MOST_BODY || rest.len > MOST_BODY) {
        refuse(connection, "413 Content Too Large");
        return false;
    }
    if (!read_body(rest, head, &body, &used)) {
        if (head.expects && !connection->continued)
            invite_body(connection);
        return false;
    }
    serve_request(connection, (Text){in->data, head_len}, head, body);
    drop_read(connection, head_len + used);
    return true;
}

void http_serve(Connection *connection)
{
    while (!connection->dead && !connection->stream && !connection->close_after &&
           serve_one(connection))
        ;
}

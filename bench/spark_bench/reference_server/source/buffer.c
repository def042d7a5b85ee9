/* Growing memory. Without memory the reference server can't measure: it says so and ends. */
#include "reference_server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *what)
{
    perror(what);
    exit(1);
}

void *grow(void *memory, size_t bytes)
{
    void *grown = realloc(memory, bytes ? bytes : 1);
    if (!grown)
        die("memory");
    return grown;
}

void *zeroed(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (!memory)
        die("memory");
    return memory;
}

/* One byte more than asked for: what is read stays a C string. */
void buffer_room(Buffer *buffer, size_t more)
{
    size_t needed = buffer->len + more + 1;
    if (needed <= buffer->cap)
        return;
    size_t doubled = buffer->cap * 2;
    buffer->cap = needed > doubled ? needed : doubled;
    buffer->data = grow(buffer->data, buffer->cap);
}

void buffer_add(Buffer *buffer, const void *data, size_t len)
{
    buffer_room(buffer, len);
    if (len)
        memcpy(buffer->data + buffer->len, data, len);
    buffer->len += len;
    buffer->data[buffer->len] = '\0';
}

void buffer_text(Buffer *buffer, const char *text)
{
    buffer_add(buffer, text, strlen(text));
}

void buffer_print(Buffer *buffer, const char *format, ...)
{
    va_list values;
    buffer_room(buffer, 256);
    va_start(values, format);
    size_t room = buffer->cap - buffer->len;
    int len = vsnprintf(buffer->data + buffer->len, room, format, values);
    va_end(values);
    if (len < 0)
        die("printf");
    if ((size_t)len >= room) {
        buffer_room(buffer, (size_t)len);
        va_start(values, format);
        vsnprintf(buffer->data + buffer->len, (size_t)len + 1, format, values);
        va_end(values);
    }
    buffer->len += (size_t)len;
}

void buffer_free(Buffer *buffer)
{
    free(buffer->data);
    *buffer = (Buffer){0};
}

bool text_starts(Text text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text.len >= len && !memcmp(text.data, prefix, len);
}

bool text_is(Text text, const char *word)
{
    return text.len == strlen(word) && text_starts(text, word);
}

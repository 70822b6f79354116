/* buffer: see buffer.h for what each function promises. */
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

/* Makes room for len more bytes behind the last one. */
static bool make_room(struct buffer *buffer, size_t len)
{
    size_t needed = buffer->len + len;
    unsigned char *memory;

    if (needed < len)
        return false; /* more than a size_t can count */
    if (buffer->start > 0)
        memmove(buffer->memory, buffer->memory + buffer->start, buffer->len);
    buffer->start = 0;
    if (needed <= buffer->capacity)
        return true;
    /* Twice as much each time: what is copied in all stays in proportion. */
    if (needed < buffer->capacity * 2)
        needed = buffer->capacity * 2;
    memory = realloc(buffer->memory, needed);
    if (memory == NULL)
        return false;
    buffer->memory = memory;
    buffer->capacity = needed;
    return true;
}

bool buffer_append(struct buffer *buffer, const void *bytes, size_t len)
{
    if (len == 0)
        return true;
    if (len > buffer->capacity - buffer->start - buffer->len &&
        !make_room(buffer, len))
        return false;
    memcpy(buffer->memory + buffer->start + buffer->len, bytes, len);
    buffer->len += len;
    return true;
}

const unsigned char *buffer_head(const struct buffer *buffer)
{
    return buffer->memory + buffer->start;
}

void buffer_consume(struct buffer *buffer, size_t len)
{
    buffer->start += len;
    buffer->len -= len;
    if (buffer->len == 0)
        buffer_clear(buffer);
}

void buffer_clear(struct buffer *buffer)
{
    free(buffer->memory);
    *buffer = (struct buffer){NULL, 0, 0, 0};
}

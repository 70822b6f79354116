/* buffer: see buffer.h for what each function promises. */
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

/* Makes room for len more bytes behind the last one. Bytes are moved to the
 * front only where at least as many have left since, and else to a memory of
 * twice the size: so all copying stays in proportion to what passes. */
static bool make_room(struct buffer *buffer, size_t len)
{
    size_t needed = buffer->len + len;
    size_t capacity = buffer->len > 0 ? needed * 2 : needed;
    unsigned char *memory;

    if (needed < len || capacity < needed)
        return false; /* more than a size_t can count */
    if (needed <= buffer->capacity && buffer->start >= buffer->len) {
        memcpy(buffer->memory, buffer->memory + buffer->start, buffer->len);
        buffer->start = 0;
        return true;
    }
    memory = malloc(capacity);
    if (memory == NULL)
        return false;
    if (buffer->len > 0)
        memcpy(memory, buffer->memory + buffer->start, buffer->len);
    free(buffer->memory);
    buffer->memory = memory;
    buffer->start = 0;
    buffer->capacity = capacity;
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
    return buffer->len > 0 ? buffer->memory + buffer->start : NULL;
}

void buffer_consume(struct buffer *buffer, size_t len)
{
    buffer->start += len;
    buffer->len -= len;
    if (buffer->len == 0)
        buffer_clear(buffer);
}

void buffer_truncate(struct buffer *buffer, size_t len)
{
    if (len < buffer->len)
        buffer->len = len;
    if (buffer->len == 0)
        buffer_clear(buffer);
}

void buffer_clear(struct buffer *buffer)
{
    free(buffer->memory);
    *buffer = (struct buffer){NULL, 0, 0, 0};
}

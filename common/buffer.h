/*
 * buffer: a queue of bytes. They come in at the tail and leave at the head,
 * in pieces of any size. An empty one holds no memory, so that ten thousand
 * idle connections cost nothing; {NULL} is empty.
 */
#ifndef COMMON_BUFFER_H
#define COMMON_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    unsigned char *memory;
    size_t start;    /* where in memory the first byte stands */
    size_t len;      /* how many bytes there are */
    size_t capacity; /* how many there is memory for */
};

/* Copies len bytes, which are not in the buffer itself, to the tail. Returns
 * false, and changes nothing, if there is no memory. How many bytes are too
 * many, its user must decide. */
bool buffer_append(struct buffer *buffer, const void *bytes, size_t len);

/* Returns the first of buffer->len bytes, valid until the next call that
 * changes the buffer; NULL if there are none. */
const unsigned char *buffer_head(const struct buffer *buffer);

/* Takes len bytes, at most buffer->len, from the head. */
void buffer_consume(struct buffer *buffer, size_t len);

/* Takes bytes from the tail, until no more than len are left. */
void buffer_truncate(struct buffer *buffer, size_t len);

/* Takes all. To be called when its user ends, unless it is empty. */
void buffer_clear(struct buffer *buffer);

#endif

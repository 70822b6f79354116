/*
 * message: bytes to messages, and back. No socket, no file and no clock is
 * in it, so that it can be tested with bytes from anywhere, and used over
 * anything. docs/protocol.md is the specification.
 *
 *     +---------+---------------------+------------------------+
 *     | length  | JSON header, UTF-8  | content                |
 *     | 2 bytes | "length" bytes      | "content-length" bytes |
 *     +---------+---------------------+------------------------+
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "../common/buffer.h" /* struct buffer */

enum {
    MOST_JSON = 128 << 10,  /* bytes of JSON content: see docs/protocol.md */
    MOST_CONTENT = 1 << 20, /* of other content, if nobody says otherwise */
    MOST_HEADER = 0xffff    /* what two bytes can count */
};

/* Which end of a multi-byte value in the content comes first. */
enum byteorder { LITTLE, BIG };

struct message {
    enum byteorder byteorder;
    const char *content_type;     /* "text/json", "binary/uint64" … */
    const char *content_encoding; /* "utf-8", "binary" … */
    const unsigned char *content; /* not a string: zero is a byte like any */
    size_t content_length;
};

/* Returns the order of this machine, which its messages declare. */
enum byteorder own_byteorder(void);

/* Reads an unsigned number of len bytes (at most 8) in this order from the
 * wire, and writes one. No byte of it is taken for more than a byte, so both
 * work for any address, and the same on every machine. */
unsigned long long read_number(const unsigned char *bytes, size_t len,
                               enum byteorder order);
void write_number(unsigned char *bytes, size_t len, enum byteorder order,
                  unsigned long long number);

/* Is the content JSON? Then decode() accepts it only in UTF-8. */
bool message_is_json(const struct message *message);

/* Appends the message, as the wire has it, to a buffer. Returns false, and
 * appends nothing, if there is no memory or the header is too long. */
bool message_encode(const struct message *message, struct buffer *buffer);

/* What decode() says of the bytes so far. */
enum decoded {
    DECODE_MORE,    /* the message is not complete */
    DECODE_MESSAGE, /* decoder->message is */
    DECODE_ERROR    /* decoder->error says what is wrong with which field */
};

/* A ladder of three steps, each of which is taken when all its bytes are
 * there, and not before. */
struct decoder {
    size_t most_content; /* longest content that is accepted, unless JSON */
    enum { AT_LENGTH, AT_HEADER, AT_CONTENT } step;
    size_t header_length;
    json_t *type, *encoding; /* own the strings of message */
    struct message message;
    char error[256];
};

/* Makes a decoder at the beginning of a message. */
void decoder_start(struct decoder *decoder, size_t most_content);

/*
 * Decodes what of a message there is. bytes are all of its bytes so far, from
 * its first one on, and perhaps those of the next. To be called again with
 * more, until it returns something else than DECODE_MORE. The result does
 * not depend on how the bytes were cut. message.content points into bytes,
 * its strings into the decoder.
 */
enum decoded decode(struct decoder *decoder, const unsigned char *bytes,
                    size_t len);

/* Returns how many bytes the complete message takes. */
size_t decoder_length(const struct decoder *decoder);

/* Returns where the bytes so far end: "length", "header" or "content". */
const char *decoder_place(const struct decoder *decoder);

/* Goes back to the beginning of a message; frees what belongs to the last. */
void decoder_next(struct decoder *decoder);

#endif

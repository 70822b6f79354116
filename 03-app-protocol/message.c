/*
 * message: see message.h for what each function promises. Encoding comes
 * first, then decoding: read decode() at the end, then the steps above it.
 */
#include "message.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/quote.h" /* quote_some() */
#include "json.h"            /* parse_json(), json_text() */

enum byteorder own_byteorder(void)
{
    const unsigned one = 1;
    unsigned char first;

    memcpy(&first, &one, 1);
    return first == 1 ? LITTLE : BIG;
}

/* The i-th byte of a number counts 256 times what the one below it counts. */
static size_t place_of(size_t i, size_t len, enum byteorder order)
{
    return order == LITTLE ? i : len - 1 - i;
}

unsigned long long read_number(const unsigned char *bytes, size_t len,
                               enum byteorder order)
{
    unsigned long long number = 0;

    for (size_t i = len; i > 0; i--)
        number = number << 8 | bytes[place_of(i - 1, len, order)];
    return number;
}

void write_number(unsigned char *bytes, size_t len, enum byteorder order,
                  unsigned long long number)
{
    for (size_t i = 0; i < len; i++) {
        bytes[place_of(i, len, order)] = (unsigned char)(number & 0xff);
        number >>= 8;
    }
}

bool message_is_json(const struct message *message)
{
    return strcmp(message->content_type, "text/json") == 0;
}

/* Returns the text of the header, for free(), or NULL. */
static char *header_of(const struct message *message)
{
    const char *order = message->byteorder == BIG ? "big" : "little";
    json_int_t length = (json_int_t)message->content_length;

    return json_text(json_pack("{s:s, s:s, s:s, s:I}", "byteorder", order,
                               "content-type", message->content_type,
                               "content-encoding", message->content_encoding,
                               "content-length", length));
}

bool message_encode(const struct message *message, struct buffer *buffer)
{
    char *header = header_of(message);
    size_t len = header != NULL ? strlen(header) : 0;
    unsigned char length[2];
    size_t before = buffer->len;
    bool good;

    write_number(length, sizeof length, BIG, len);
    good = header != NULL && len <= MOST_HEADER &&
           buffer_append(buffer, length, sizeof length) &&
           buffer_append(buffer, header, len) &&
           buffer_append(buffer, message->content, message->content_length);

    free(header);
    if (!good)
        buffer_truncate(buffer, before);
    return good;
}

void decoder_start(struct decoder *decoder, size_t most_content)
{
    *decoder = (struct decoder){.most_content = most_content};
}

void decoder_next(struct decoder *decoder)
{
    json_decref(decoder->type);
    json_decref(decoder->encoding);
    decoder->type = decoder->encoding = NULL;
    decoder->step = AT_LENGTH;
}

size_t decoder_length(const struct decoder *decoder)
{
    return 2 + decoder->header_length + decoder->message.content_length;
}

const char *decoder_place(const struct decoder *decoder)
{
    static const char *const places[] = {"length", "header", "content"};

    return places[decoder->step];
}

/* --- What is wrong with a header ------------------------------------------ */

/* Notes what is wrong, and returns false. */
static bool wrong(struct decoder *decoder, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool wrong(struct decoder *decoder, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(decoder->error, sizeof decoder->error, format, arguments);
    va_end(arguments);
    return false;
}

/* Puts the value of a key that must be there and a string into *value, which
 * stays the header's. */
static bool take_string(struct decoder *decoder, const json_t *header,
                        const char *key, json_t **value)
{
    *value = json_object_get(header, key);
    if (*value == NULL)
        return wrong(decoder, "header: %s is missing", key);
    if (!json_is_string(*value))
        return wrong(decoder, "header: %s is not a string", key);
    return true;
}

static bool take_byteorder(struct decoder *decoder, const json_t *header)
{
    json_t *json;
    const char *value;

    if (!take_string(decoder, header, "byteorder", &json))
        return false;
    value = json_string_value(json);
    if (strcmp(value, "little") != 0 && strcmp(value, "big") != 0)
        return wrong(decoder, "header: byteorder is %s, not 'little' or 'big'",
                     quote_some(value, strlen(value), 40).text);
    decoder->message.byteorder = strcmp(value, "big") == 0 ? BIG : LITTLE;
    return true;
}

/* What the content is, and how its text is encoded. Of the header, only these
 * two strings are kept: a header of 64 KiB takes megabytes once it is parsed,
 * and its sender may let the content wait. */
static bool take_type(struct decoder *decoder, const json_t *header)
{
    struct message *message = &decoder->message;
    json_t *type, *encoding;

    if (!take_string(decoder, header, "content-type", &type) ||
        !take_string(decoder, header, "content-encoding", &encoding))
        return false;
    decoder->type = json_incref(type);
    decoder->encoding = json_incref(encoding);
    message->content_type = json_string_value(type);
    message->content_encoding = json_string_value(encoding);
    if (message_is_json(message) &&
        strcmp(message->content_encoding, "utf-8") != 0)
        return wrong(decoder,
                     "header: content-encoding of text/json is %s, not 'utf-8'",
                     quote_some(message->content_encoding,
                                json_string_length(encoding), 40)
                         .text);
    return true;
}

/* The type decides which length is allowed. */
static bool take_content_length(struct decoder *decoder, const json_t *header)
{
    const json_t *json = json_object_get(header, "content-length");
    json_int_t length = json_integer_value(json); /* 64 bits everywhere */
    size_t most =
        message_is_json(&decoder->message) ? MOST_JSON : decoder->most_content;

    if (json == NULL)
        return wrong(decoder, "header: content-length is missing");
    if (!json_is_integer(json))
        return wrong(decoder, "header: content-length is not an integer");
    if (length < 0 || (unsigned long long)length > most)
        return wrong(decoder,
                     "header: content-length is %" JSON_INTEGER_FORMAT
                     ", not from 0 to %zu",
                     length, most);
    decoder->message.content_length = (size_t)length;
    return true;
}

/* The first field that breaks a rule is the one that is told. */
static bool check_header(struct decoder *decoder, const json_t *header)
{
    return take_byteorder(decoder, header) && take_type(decoder, header) &&
           take_content_length(decoder, header);
}

/* --- The ladder ----------------------------------------------------------- */

/* Each step does nothing until its bytes are there, and then goes on to the
 * next. */
static void take_length(struct decoder *decoder, const unsigned char *bytes,
                        size_t len)
{
    if (len < 2)
        return;
    decoder->header_length = (size_t)read_number(bytes, 2, BIG);
    decoder->step = AT_HEADER;
}

/* Returns false if the header is wrong. */
static bool take_header(struct decoder *decoder, const unsigned char *bytes,
                        size_t len)
{
    json_t *header;
    bool good;

    if (len - 2 < decoder->header_length)
        return true;
    header = parse_json("header", bytes + 2, decoder->header_length,
                        decoder->error, sizeof decoder->error);
    good = header != NULL && check_header(decoder, header);
    json_decref(header);
    if (good)
        decoder->step = AT_CONTENT;
    return good;
}

enum decoded decode(struct decoder *decoder, const unsigned char *bytes,
                    size_t len)
{
    if (decoder->step == AT_LENGTH)
        take_length(decoder, bytes, len);
    if (decoder->step == AT_HEADER && !take_header(decoder, bytes, len))
        return DECODE_ERROR;
    if (decoder->step != AT_CONTENT || len < decoder_length(decoder))
        return DECODE_MORE;
    decoder->message.content = bytes + 2 + decoder->header_length;
    return DECODE_MESSAGE;
}

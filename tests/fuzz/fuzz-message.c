/*
 * fuzz-message: libFuzzer gives it bytes, as a client might send them. What
 * must hold for them, whatever they are:
 *
 * - The decoder says the same, wherever the bytes are cut, and reads no byte
 *   that has not come.
 * - A message that it decodes is the same after encoding and decoding.
 * - They can be quoted.
 * - What the server answers to it is one message; and so is its error reply.
 *
 * The cuts are random numbers whose seed is made of the bytes: so the files in
 * corpus/ are messages and nothing else, and a finding can be run again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../03-app-protocol/answer.h"  /* answer(), answer_error() */
#include "../../03-app-protocol/json.h"    /* parse_json() */
#include "../../03-app-protocol/message.h" /* decode(), message_encode() */
#include "../../common/quote.h"            /* quote() */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Not assert(): that may be switched off. */
static void must(bool holds)
{
    if (!holds)
        abort();
}

/* A generator of random numbers (splitmix64), and a hash to seed it (FNV). */
static uint64_t next_number(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static uint64_t hash(const uint8_t *bytes, size_t len)
{
    uint64_t sum = 0xcbf29ce484222325;

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3;
    return sum;
}

static void check_same(const struct message *a, const struct message *b)
{
    must(a->byteorder == b->byteorder);
    must(strcmp(a->content_type, b->content_type) == 0);
    must(strcmp(a->content_encoding, b->content_encoding) == 0);
    must(a->content_length == b->content_length);
    must(a->content_length == 0 ||
         memcmp(a->content, b->content, a->content_length) == 0);
}

/* Output must be one message, and nothing else; of what type, it returns. */
static void check_one_message(const struct buffer *output, bool is_error)
{
    struct decoder decoder;
    char error[256];
    json_t *json;

    decoder_start(&decoder, MOST_CONTENT);
    must(decode(&decoder, buffer_head(output), output->len) == DECODE_MESSAGE);
    must(decoder_length(&decoder) == output->len);
    must(decoder.message.byteorder == own_byteorder());
    must(!is_error || message_is_json(&decoder.message));
    if (message_is_json(&decoder.message)) {
        json = parse_json("content", decoder.message.content,
                          decoder.message.content_length, error, sizeof error);
        must(json != NULL && json_object_size(json) == 1);
        must(json_is_string(
            json_object_get(json, is_error ? "error" : "result")));
        json_decref(json);
    }
    decoder_next(&decoder);
}

static void check_error_reply(const char *error)
{
    struct buffer output = {NULL, 0, 0, 0};

    must(error[0] != '\0' && strlen(error) < 255);
    must(strncmp(error, "no memory", 9) != 0);
    must(strncmp(error, "header: no memory", 17) != 0);
    must(strncmp(error, "content: no memory", 18) != 0);
    must(answer_error(error, &output));
    check_one_message(&output, true);
    buffer_clear(&output);
}

static void check_answer(const struct message *request)
{
    struct buffer output = {NULL, 0, 0, 0};
    char error[256] = "";

    if (answer(request, &output, error, sizeof error)) {
        check_one_message(&output, false);
    } else {
        must(output.len == 0);
        check_error_reply(error);
    }
    buffer_clear(&output);
}

/* A sender may write what it has received: then it is the same. */
static void check_round_trip(const struct message *message)
{
    struct buffer bytes = {NULL, 0, 0, 0};
    struct decoder decoder;

    /* Written with all its keys, a header may grow too long. */
    if (!message_encode(message, &bytes)) {
        must(strlen(message->content_type) + strlen(message->content_encoding) >
             10000);
        return;
    }
    decoder_start(&decoder, MOST_CONTENT);
    must(decode(&decoder, buffer_head(&bytes), bytes.len) == DECODE_MESSAGE);
    must(decoder_length(&decoder) == bytes.len);
    check_same(message, &decoder.message);
    decoder_next(&decoder);
    buffer_clear(&bytes);
}

/* Decodes the same in pieces, each in a memory of its own, so that the
 * sanitizer sees who reads too far. */
static void check_cuts(const uint8_t *bytes, size_t len,
                       const struct decoder *whole, enum decoded wanted)
{
    uint64_t state = hash(bytes, len);
    struct decoder decoder;
    enum decoded decoded = DECODE_MORE;
    size_t at = 0;

    decoder_start(&decoder, MOST_CONTENT);
    for (;;) {
        size_t step = next_number(&state) % 4 == 0 ? len : 40;
        uint8_t *copy = malloc(at > 0 ? at : 1);

        must(copy != NULL);
        memcpy(copy, bytes, at);
        decoded = decode(&decoder, copy, at);
        if (decoded == DECODE_MESSAGE && wanted == DECODE_MESSAGE)
            check_same(&whole->message, &decoder.message);
        free(copy);
        if (decoded != DECODE_MORE || at == len)
            break;
        at += 1 + next_number(&state) % (step + 1);
        at = at < len ? at : len;
    }
    must(decoded == wanted && decoder.step == whole->step);
    if (decoded == DECODE_ERROR)
        must(strcmp(decoder.error, whole->error) == 0);
    if (decoded == DECODE_MESSAGE)
        must(decoder_length(&decoder) == decoder_length(whole));
    decoder_next(&decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct decoder decoder;
    enum decoded decoded;

    must(strlen(quote(bytes, len).text) > 1);
    decoder_start(&decoder, MOST_CONTENT);
    do {
        decoded = decode(&decoder, bytes, len);
        check_cuts(bytes, len, &decoder, decoded);
        if (decoded == DECODE_ERROR)
            check_error_reply(decoder.error);
        if (decoded == DECODE_MESSAGE) { /* and no header has a zero byte */
            must(memchr(bytes + 2, 0, decoder.header_length) == NULL);
            check_round_trip(&decoder.message);
            check_answer(&decoder.message);
            bytes += decoder_length(&decoder);
            len -= decoder_length(&decoder);
        }
        decoder_next(&decoder);
    } while (decoded == DECODE_MESSAGE);
    return 0;
}

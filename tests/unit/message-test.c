/*
 * message-test: the unit tests of message.[ch]: every cut, every number, every
 * error, and a lack of memory at every place. The table at the end names them.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../03-app-protocol/answer.h" /* answer() */
#include "../../03-app-protocol/json.h"   /* parse_json() */
#include "check.h"

enum { GIB = 1 << 30 };

/* --- What decode() says, as a text ---------------------------------------- */

/* Appends to a text of at most 8,000 bytes what one message is. */
static void tell(char *text, const struct decoder *decoder,
                 enum decoded decoded, const unsigned char *bytes)
{
    const struct message *message = &decoder->message;
    size_t len = strlen(text);
    char *end = text + len;
    size_t room = 8000 - len;
    unsigned long sum = 0;

    switch (decoded) {
    case DECODE_MORE:
        snprintf(end, room, "more of the %s\n", decoder_place(decoder));
        break;
    case DECODE_ERROR:
        snprintf(end, room, "error: %s\n", decoder->error);
        break;
    case DECODE_MESSAGE:
        CHECK(message->content ==
              bytes + decoder_length(decoder) - message->content_length);
        for (size_t i = 0; i < message->content_length; i++)
            sum = sum * 31 + message->content[i];
        snprintf(end, room, "%d %s %s %zu %zu %lx\n", message->byteorder,
                 message->content_type, message->content_encoding,
                 decoder_length(decoder), message->content_length, sum);
    }
}

/* Decodes all messages at the head of input, and takes them away. Returns
 * false when nothing more will be decoded. */
static bool decode_some(struct decoder *decoder, struct buffer *input,
                        char *text)
{
    enum decoded decoded;

    while (decoded = decode(decoder, buffer_head(input), input->len),
           decoded == DECODE_MESSAGE) {
        tell(text, decoder, decoded, buffer_head(input));
        buffer_consume(input, decoder_length(decoder));
        decoder_next(decoder);
    }
    if (decoded == DECODE_ERROR)
        tell(text, decoder, decoded, NULL);
    return decoded == DECODE_MORE;
}

/* Decodes bytes that come in pieces of step bytes, as a text. */
static void decode_in_steps(const struct buffer *bytes, size_t step, char *text)
{
    struct decoder decoder;
    struct buffer input = {NULL, 0, 0, 0};
    bool more = true;

    text[0] = '\0';
    decoder_start(&decoder, MOST_CONTENT);
    for (size_t at = 0; more && at < bytes->len; at += step) {
        size_t len = bytes->len - at < step ? bytes->len - at : step;

        CHECK(buffer_append(&input, buffer_head(bytes) + at, len));
        more = decode_some(&decoder, &input, text);
    }
    if (more)
        tell(text, &decoder, DECODE_MORE, NULL);
    decoder_next(&decoder);
    buffer_clear(&input);
}

/* Returns what decode() says of one message, the first piece of which ends at
 * cut; or, if the cut is at its end, of it in one piece. */
static const char *decode_cut(const struct buffer *bytes, size_t cut)
{
    static char text[8000];
    struct decoder decoder;
    const unsigned char *all;
    enum decoded decoded;

    text[0] = '\0';
    decoder_start(&decoder, MOST_CONTENT);
    decoded = decode(&decoder, at_the_edge(buffer_head(bytes), cut), cut);
    if (cut < bytes->len) {
        CHECK(decoded != DECODE_MESSAGE);
        if (decoded == DECODE_MORE) {
            all = at_the_edge(buffer_head(bytes), bytes->len);
            decoded = decode(&decoder, all, bytes->len);
        }
    }
    tell(text, &decoder, decoded, at_the_edge(buffer_head(bytes), bytes->len));
    decoder_next(&decoder);
    return text;
}

/* Returns what decode() says of a header, and answer() of the content. */
static const char *verdict(const char *header, const void *content, size_t len)
{
    static char text[8000];
    struct buffer bytes = {NULL, 0, 0, 0}, output = {NULL, 0, 0, 0};
    struct decoder decoder;
    enum decoded decoded;
    char error[256];

    put_message(&bytes, header, content, len);
    decoder_start(&decoder, MOST_CONTENT);
    decoded = decode(&decoder, buffer_head(&bytes), bytes.len);
    if (decoded != DECODE_MESSAGE)
        snprintf(text, sizeof text, "%s",
                 decoded == DECODE_MORE ? "more" : decoder.error);
    else if (answer(&decoder.message, &output, error, sizeof error))
        snprintf(text, sizeof text, "good");
    else
        snprintf(text, sizeof text, "%s", error);
    decoder_next(&decoder);
    buffer_clear(&output);
    buffer_clear(&bytes);
    return text;
}

/* --- Messages ------------------------------------------------------------- */

#define HEADER(order, type, encoding, length)                                  \
    "{\"byteorder\": " order ", \"content-type\": " type                       \
    ", \"content-encoding\": " encoding ", \"content-length\": " length "}"
#define BINARY(length) HEADER("\"big\"", "\"x\"", "\"y\"", length)

/* Good ones and bad ones, each a class of its own. Returns false after the
 * last. */
static bool take_sample(size_t i, struct buffer *bytes)
{
    static const char *const headers[] = {
        BINARY("0"),
        BINARY("5"),
        HEADER("\"little\"", "\"text/json\"", "\"utf-8\"", "5"),
        "\t{\"content-length\" : 5,\r\n\"more\": [1, {\"deep\": null}], "
        "\"content-encoding\": \"\xc3\xa9\xf0\x9f\x90\xb6\", \"byteorder\": "
        "\"big\", \"content-type\": \"\\u00e9\"} ",
        BINARY("6"), /* and only 5 follow: never complete */
        BINARY("-1"),
        BINARY("5.0"),
        HEADER("\"middle\"", "\"x\"", "\"y\"", "5"),
        HEADER("\"big\"", "\"text/json\"", "\"UTF-8\"", "5"),
        HEADER("\"big\"", "1", "\"y\"", "5"),
        "{\"byteorder\": \"big\", \"byteorder\": \"big\"}",
        "{\"x\": \"\xff\"}",
        "{\"x\": \"\\u0000\"}",
        "{\"x\": 1e999}",
        "{} x",
        "{",
        "[]",
        "",
    };

    *bytes = (struct buffer){NULL, 0, 0, 0};
    if (i >= sizeof headers / sizeof headers[0])
        return false;
    put_message(bytes, headers[i], i == 0 ? "" : "\0\1{}\xff", i == 0 ? 0 : 5);
    return true;
}

/* --- Cuts ----------------------------------------------------------------- */

static void every_cut(void)
{
    struct buffer bytes;

    for (size_t i = 0; take_sample(i, &bytes); i++) {
        char whole[8000];

        snprintf(whole, sizeof whole, "%s", decode_cut(&bytes, bytes.len));
        CHECK(strncmp(whole, "more", 4) != 0 || i == 4);
        for (size_t cut = 0; cut <= bytes.len; cut++) {
            now_at("sample %zu cut at %zu", i, cut);
            CHECK_TEXT(decode_cut(&bytes, cut), whole);
        }
        buffer_clear(&bytes);
    }
}

static void every_step(void)
{
    struct buffer stream = {NULL, 0, 0, 0};
    static unsigned char content[6000];
    char whole[8000], text[8000];

    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (unsigned char)chance(256);
    for (size_t i = 0; i < 4; i++) {
        put_good(&stream, "big", "x", "y", content, 0);
        put_good(&stream, "little", "text/json", "utf-8", "{}", 2);
        put_good(&stream, "big", "binary/uint32-array", "binary", content,
                 i * 2000);
    }
    for (int end = 0; end < 3; end++) {
        if (end == 1)
            put_message(&stream, BINARY("9"), "part", 4);
        if (end == 2) {
            buffer_truncate(&stream, stream.len - 1);
            CHECK(buffer_append(&stream, "mall\0\7{\"x\":1]", 13));
        }
        decode_in_steps(&stream, stream.len, whole);
        for (size_t step = 1; step <= 4096; step++) {
            now_at("end %d, %zu bytes at a time", end, step);
            decode_in_steps(&stream, step, text);
            CHECK_TEXT(text, whole);
        }
    }
    buffer_clear(&stream);
}

static void messages_in_a_row(void)
{
    struct buffer stream = {NULL, 0, 0, 0};
    struct decoder decoder;

    for (unsigned i = 0; i < 1000; i++) {
        char content[20];

        put_good(&stream, "big", "x", "y", content,
                 (size_t)snprintf(content, sizeof content, "%u", i * 77));
    }
    decoder_start(&decoder, 19);
    for (unsigned i = 0; i < 1000; i++) {
        char content[20];
        size_t len = (size_t)snprintf(content, sizeof content, "%u", i * 77);

        CHECK(decode(&decoder, buffer_head(&stream), stream.len) ==
              DECODE_MESSAGE);
        CHECK(decoder.message.content_length == len);
        CHECK(memcmp(decoder.message.content, content, len) == 0);
        buffer_consume(&stream, decoder_length(&decoder));
        decoder_next(&decoder);
    }
    CHECK(stream.len == 0);
    CHECK(decode(&decoder, NULL, 0) == DECODE_MORE);
    CHECK_TEXT(decoder_place(&decoder), "length");
}

static void nothing_read_too_far(void)
{
    struct buffer bytes;

    for (size_t i = 0; take_sample(i, &bytes); i++) {
        for (size_t len = 0; len <= bytes.len; len++) {
            struct decoder decoder;
            const unsigned char *edge = at_the_edge(buffer_head(&bytes), len);

            decoder_start(&decoder, MOST_CONTENT);
            decode(&decoder, edge, len);
            decoder_next(&decoder);
        }
        buffer_clear(&bytes);
    }
}

static void where_bytes_end(void)
{
    struct buffer bytes = {NULL, 0, 0, 0};
    struct decoder decoder;
    size_t header = strlen(BINARY("3"));

    put_message(&bytes, BINARY("3"), "abc", 3);
    for (size_t len = 0; len <= bytes.len; len++) {
        enum decoded decoded;

        now_at("%zu bytes", len);
        decoder_start(&decoder, MOST_CONTENT);
        decoded = decode(&decoder, buffer_head(&bytes), len);
        CHECK(decoded == (len == bytes.len ? DECODE_MESSAGE : DECODE_MORE));
        CHECK_TEXT(decoder_place(&decoder), len < 2            ? "length"
                                            : len < 2 + header ? "header"
                                                               : "content");
        decoder_next(&decoder);
    }
    buffer_clear(&bytes);
}

/* --- Rules ---------------------------------------------------------------- */

static void every_error(void)
{
    static const struct {
        const char *header, *content, *wanted;
    } cases[] = {
        {BINARY("0"), "", "good"},
        {"", "", "header: not JSON at byte 0"},
        {"{", "", "header: not JSON at byte 1"},
        {"{} {}", "", "header: not JSON at byte 4"},
        {"null", "", "header: not JSON at byte 4"},
        {"\"{}\"", "", "header: not JSON at byte 4"},
        {"{'x': 1}", "", "header: not JSON at byte 2"},
        {"{\"x\": 1,}", "", "header: not JSON at byte 9"},
        {"{\"x\": nan}", "", "header: not JSON at byte 9"},
        {"\xef\xbb\xbf{}", "", "header: not JSON at byte 3"},
        {"{\"x\": \"\xff\"}", "", "header: not UTF-8 at byte 7"},
        {"{\"x\": 1, \"\\u0078\": 1}", "",
         "header: a key occurs twice at byte 17"},
        {"{\"x\": 1e400}", "", "header: a number is too large at byte 11"},
        {"{\"x\": 9223372036854775808}", "",
         "header: a number is too large at byte 25"},
        {"{\"x\": \"a\\u0000b\"}", "",
         "header: \\u0000 is not allowed at byte 16"},
        {"[]", "", "header: not an object"},
        {"{}", "", "header: byteorder is missing"},
        {"{\"byteorder\": \"big\"}", "", "header: content-type is missing"},
        {"{\"byteorder\": \"big\", \"content-type\": \"x\"}", "",
         "header: content-encoding is missing"},
        {"{\"byteorder\": \"big\", \"content-type\": \"x\", "
         "\"content-encoding\": \"y\"}",
         "", "header: content-length is missing"},
        {HEADER("null", "1", "2", "x"), "", "header: not JSON at byte 81"},
        {HEADER("null", "1", "2", "-1"), "",
         "header: byteorder is not a string"},
        {HEADER("\"\"", "1", "2", "-1"), "",
         "header: byteorder is '', not 'little' or 'big'"},
        {HEADER("\"Big\"", "1", "2", "-1"), "",
         "header: byteorder is 'Big', not 'little' or 'big'"},
        {HEADER("\"\\u001b\\ud83d\\udc36xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
                "1", "2", "-1"),
         "",
         "header: byteorder is '\\x1b\xf0\x9f\x90\xb6"
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'\xe2\x80\xa6 (41 bytes), "
         "not 'little' or 'big'"},
        {HEADER("\"\xf4\x8f\xbf\xbf\"", "1", "2", "-1"), "",
         "header: byteorder is '\\xf4\\x8f\\xbf\\xbf', not 'little' or 'big'"},
        {HEADER("\"big\"", "[]", "2", "-1"), "",
         "header: content-type is not a string"},
        {HEADER("\"big\"", "\"x\"", "{}", "-1"), "",
         "header: content-encoding is not a string"},
        {HEADER("\"big\"", "\"text/json\"", "\"utf-16\"", "-1"), "",
         "header: content-encoding of text/json is 'utf-16', not 'utf-8'"},
        {HEADER("\"big\"", "\"text/json\"", "\"UTF-8\"", "-1"), "",
         "header: content-encoding of text/json is 'UTF-8', not 'utf-8'"},
        {HEADER("\"big\"", "\"text/json\"", "\"utf-8\"", "-1"), "",
         "header: content-length is -1, not from 0 to 131072"},
        {HEADER("\"big\"", "\"text/json\"", "\"utf-8\"", "131073"), "",
         "header: content-length is 131073, not from 0 to 131072"},
        {HEADER("\"big\"", "\"text/json\"", "\"utf-8\"", "131072"), "", "more"},
        {BINARY("1048577"), "",
         "header: content-length is 1048577, not from 0 to 1048576"},
        {BINARY("1048576"), "", "more"},
        {BINARY("1"), "", "more"},
        {BINARY("1"), "zz", "good"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        now_at("%s", cases[i].header);
        CHECK_TEXT(verdict(cases[i].header, cases[i].content,
                           strlen(cases[i].content)),
                   cases[i].wanted);
    }
}

/* Returns the verdict of a JSON request with this content. */
static const char *json_verdict(const char *content, size_t len)
{
    char header[200];

    snprintf(header, sizeof header,
             "{\"byteorder\": \"big\", \"content-type\": \"text/json\", "
             "\"content-encoding\": \"utf-8\", \"content-length\": %zu}",
             len);
    return verdict(header, content, len);
}

static void every_error_of_content(void)
{
    static const char *const cases[][2] = {
        {"", "content: not JSON at byte 0"},
        {"{", "content: not JSON at byte 1"},
        {"{}}", "content: not JSON at byte 3"},
        {"\"x\"", "content: not JSON at byte 3"},
        {"\xef\xbb\xbf{}", "content: not JSON at byte 3"},
        {"{\"x\": \"\xc3\"}", "content: not UTF-8 at byte 7"},
        {"{\"x\": 1, \"x\": 2}", "content: a key occurs twice at byte 12"},
        {"{\"x\": -9223372036854775809}",
         "content: a number is too large at byte 26"},
        {"{\"x\": [\"\\u0000\"]}",
         "content: \\u0000 is not allowed at byte 15"},
        {"[]", "content: not an object"},
        {"{}", "content: action is missing, or not a string"},
        {"{\"action\": 1}", "content: action is missing, or not a string"},
        {"{\"action\": \"search\"}",
         "content: value is missing, or not a string"},
        {"{\"action\": \"search\", \"value\": null}",
         "content: value is missing, or not a string"},
        {"{\"action\": \"\"}", "good"},
        {"{\"value\": 3, \"action\": \"x\"}", "good"},
        {" {\"value\": \"\", \"action\": \"search\", \"z\": 1.5e3}\n", "good"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        now_at("%s", cases[i][0]);
        CHECK_TEXT(json_verdict(cases[i][0], strlen(cases[i][0])), cases[i][1]);
    }
    for (size_t len = 0; len < 9; len++)
        CHECK_TEXT(
            verdict(
                len == 4
                    ? HEADER("\"big\"", "\"binary/uint32-array\"", "\"\"", "4")
                : len == 8
                    ? HEADER("\"big\"", "\"binary/uint32-array\"", "\"\"", "8")
                : len == 0
                    ? HEADER("\"big\"", "\"binary/uint32-array\"", "\"\"", "0")
                    : HEADER("\"big\"", "\"binary/uint32-array\"", "\"\"", "7"),
                "12345678", 8),
            len % 4 == 0 ? "good" : "content: its length is no multiple of 4");
}

static void odd_numbers(void)
{
    static const char integer[] = "header: content-length is not an integer";
    static const char not_json[] = "header: not JSON";
    static const char large[] = "header: a number is too large";
    static const char range[] = "header: content-length is ";
    static const struct {
        const char *number, *wanted;
    } cases[] = {
        {"-1", range},
        {"-0", "good"},
        {"1.5", integer},
        {"1.0", integer},
        {"0.0", integer},
        {"1e3", integer},
        {"1E3", integer},
        {"1e400", large},
        {"-1e400", large},
        {"00012", not_json},
        {"00", not_json},
        {"+5", not_json},
        {"0x5", not_json},
        {"5.", not_json},
        {".5", not_json},
        {"2147483648", range},
        {"4294967295", range},
        {"4294967296", range},
        {"4294967306", range},
        {"9007199254740993", range},
        {"9223372036854775807", range},
        {"-9223372036854775808", range},
        {"9223372036854775808", large},
        {"-9223372036854775809", large},
        {"18446744073709551616", large},
        {"18446744073709551617", large},
        {"1000000000000000000000000000000", large},
        {"NaN", not_json},
        {"Infinity", not_json},
        {"-", not_json},
        {"\"12\"", integer},
        {"true", integer},
        {"false", integer},
        {"null", integer},
        {"[0]", integer},
        {"{}", integer},
        {"", not_json},
        {" 0 ", "good"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char header[300], wanted[300];
        const char *got;

        now_at("content-length %s", cases[i].number);
        snprintf(header, sizeof header,
                 HEADER("\"big\"", "\"x\"", "\"y\"", "%s"), cases[i].number);
        got = verdict(header, "", 0);
        snprintf(wanted, sizeof wanted, "%s", cases[i].wanted);
        if (cases[i].wanted == range) {
            snprintf(wanted, sizeof wanted, "%s%s, not from 0 to 1048576",
                     range, cases[i].number);
            CHECK_TEXT(got, wanted);
        }
        CHECK(strncmp(got, wanted, strlen(wanted)) == 0);
    }
}

static void text_that_is_no_text(void)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"\xc3\xa9", "good"},
        {"\xf0\x9f\x90\xb6", "good"},
        {"\xef\xbf\xbf", "good"},
        {"\xf4\x8f\xbf\xbf", "good"},
        {"\\ud83d\\udc36", "good"},
        {"\x7f", "good"},
        {"\x80", "not UTF-8"},
        {"\xc3", "not UTF-8"},
        {"\xc0\x80", "not UTF-8"},
        {"\xc1\xbf", "not UTF-8"},
        {"\xe0\x80\xaf", "not UTF-8"},
        {"\xf0\x80\x80\xaf", "not UTF-8"},
        {"\xed\xa0\x80", "not UTF-8"},
        {"\xed\xb0\x80", "not UTF-8"},
        {"\xf4\x90\x80\x80", "not UTF-8"},
        {"\xf8\x88\x80\x80\x80", "not UTF-8"},
        {"\xff\xfe", "not UTF-8"},
        {"\\u0000", "\\u0000 is not allowed"},
        {"\\ud800", "not JSON"},
        {"\\udc36", "not JSON"},
        {"\\ud83d\\u0041", "not JSON"},
        {"\\ud83dx", "not JSON"},
        {"\\x41", "not JSON"},
        {"\\u12", "not JSON"},
        {"\n", "not JSON"},
        {"\x1f", "not JSON"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static const char *const places[] = {
            "{\"action\": \"%s\"}", "{\"action\": \"x\", \"%s\": 1}",
            "{\"action\": \"x\", \"y\": [{\"z\": \"%s\"}]}"};

        for (size_t j = 0; j < 3; j++) {
            char content[200], wanted[200];
            const char *got;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(content, sizeof content, places[j], cases[i].text);
#pragma GCC diagnostic pop
            now_at("case %zu in %s", i, places[j]);
            got = json_verdict(content, strlen(content));
            snprintf(wanted, sizeof wanted, "%s%s",
                     strcmp(cases[i].wanted, "good") == 0 ? "" : "content: ",
                     cases[i].wanted);
            if (strncmp(got, wanted, strlen(wanted)) != 0)
                CHECK_TEXT(got, wanted);
        }
    }
}

static void zeros(void)
{
    static const char content[] = "{\"action\": \"x\"}\0{}";
    static const char text[] = "{\"action\": \"x\0y\"}";
    struct buffer bytes = {NULL, 0, 0, 0};
    struct decoder decoder;

    CHECK_TEXT(json_verdict(content, 15), "good");
    CHECK_TEXT(json_verdict(content, 16), "content: not JSON at byte 16");
    CHECK_TEXT(json_verdict(content, 18), "content: not JSON at byte 16");
    CHECK(strncmp(json_verdict(text, sizeof text - 1), "content: not JSON",
                  17) == 0);
    CHECK(buffer_append(&bytes, "\0\3{}\0", 5));
    decoder_start(&decoder, MOST_CONTENT);
    CHECK(decode(&decoder, buffer_head(&bytes), bytes.len) == DECODE_ERROR);
    CHECK_TEXT(decoder.error, "header: not JSON at byte 3");
    buffer_clear(&bytes);

    CHECK_TEXT(json_verdict("{\"action\": \"x\", \"y\": 1\0}", 24),
               "content: not JSON at byte 23");
    CHECK_TEXT(json_verdict("{\"action\": \"x\", \"y\": null\0}", 27),
               "content: not JSON at byte 26");

    put_good(&bytes, "big", "x", "y", "\0a\0\0b\0", 6);
    decoder_start(&decoder, MOST_CONTENT);
    CHECK(decode(&decoder, buffer_head(&bytes), bytes.len) == DECODE_MESSAGE);
    CHECK(decoder.message.content_length == 6);
    CHECK(memcmp(decoder.message.content, "\0a\0\0b\0", 6) == 0);
    decoder_next(&decoder);
    buffer_clear(&bytes);
}

/* A value that stands in depth arrays and objects, all of them counted. */
static const char *nested(size_t depth, const char *value)
{
    static char content[300000];
    size_t len = (size_t)sprintf(content, "{\"action\": \"x\", \"deep\": ");

    for (size_t i = 1; i < depth; i++)
        content[len++] = '[';
    len += (size_t)sprintf(content + len, "%s", value);
    for (size_t i = 1; i < depth; i++)
        content[len++] = ']';
    content[len++] = '}';
    content[len] = '\0';
    return json_verdict(content, len);
}

static void deep_nesting(void)
{
    static const char too_deep[] = "content: nested too deeply";

    CHECK_TEXT(nested(10, "1"), "good");
    CHECK_TEXT(nested(2047, "1"), "good");
    CHECK_TEXT(nested(2047, "{}"), "good");
    CHECK(strncmp(nested(2048, "1"), too_deep, strlen(too_deep)) == 0);
    CHECK(strncmp(nested(2048, "[]"), too_deep, strlen(too_deep)) == 0);
    CHECK(strncmp(nested(60000, "1"), too_deep, strlen(too_deep)) == 0);
}

/* --- Memory --------------------------------------------------------------- */

static void big_announcement(void)
{
    struct buffer bytes = {NULL, 0, 0, 0};
    struct decoder decoder;
    long before;

    put_message(&bytes, BINARY("1073741824"), "abc", 3);
    now_at("a length over the limit");
    decoder_start(&decoder, GIB - 1);
    count_memory(0, false);
    CHECK(decode(&decoder, buffer_head(&bytes), bytes.len) == DECODE_ERROR);
    CHECK(memory_at_most() < 131072);
    decoder_next(&decoder);

    now_at("a length within the limit");
    decoder_start(&decoder, GIB);
    count_memory(0, false);
    CHECK(decode(&decoder, buffer_head(&bytes), bytes.len) == DECODE_MORE);
    CHECK(decoder.message.content_length == GIB);
    CHECK(memory_at_most() < 131072); /* parsing a header may take so much */
    before = allocations();
    CHECK(buffer_append(&bytes, "def", 3));
    count_memory(0, false);
    CHECK(decode(&decoder, buffer_head(&bytes), bytes.len) == DECODE_MORE);
    CHECK(allocations() == 0 && before > 0);
    decoder_next(&decoder);

    decoder_start(&decoder, GIB - 1);
    CHECK(decode(&decoder, buffer_head(&bytes), bytes.len) == DECODE_ERROR);
    CHECK_TEXT(decoder.error, "header: content-length is 1073741824, not from "
                              "0 to 1073741823");
    decoder_next(&decoder);
    buffer_clear(&bytes);
}

static void little_is_kept(void)
{
    static char header[65536];
    struct buffer bytes = {NULL, 0, 0, 0};
    struct decoder decoder;
    size_t len = (size_t)sprintf(header, "{\"x\": [");

    while (len < 65000)
        len += (size_t)sprintf(header + len, "[],");
    sprintf(header + len,
            "1], \"byteorder\": \"big\", \"content-type\": \"x\", "
            "\"content-encoding\": \"y\", \"content-length\": 9}");
    put_message(&bytes, header, "", 0);
    decoder_start(&decoder, MOST_CONTENT);
    count_memory(0, false);
    CHECK(decode(&decoder, buffer_head(&bytes), bytes.len) == DECODE_MORE);
    CHECK_TEXT(decoder_place(&decoder), "content");
    CHECK(memory_at_most() > 1000000);
    CHECK(memory_left() > 0);
    CHECK(memory_left() < 500);
    decoder_next(&decoder);
    CHECK(memory_left() == 0);
    buffer_clear(&bytes);
}

static void decode_without_memory(void)
{
    struct buffer bytes;

    for (size_t i = 0; take_sample(i, &bytes); i++) {
        char whole[8000], text[8000] = "";
        long fail = 0;

        snprintf(whole, sizeof whole, "%s", decode_cut(&bytes, bytes.len));
        do {
            struct decoder decoder;
            enum decoded decoded;

            now_at("sample %zu, allocation %ld", i, fail);
            text[0] = '\0';
            decoder_start(&decoder, MOST_CONTENT);
            count_memory(++fail, true);
            decoded = decode(&decoder, buffer_head(&bytes), bytes.len);
            tell(text, &decoder, decoded, buffer_head(&bytes));
            if (allocations() >= fail && strcmp(text, whole) != 0) {
                CHECK(decoded == DECODE_ERROR);
                CHECK(strncmp(decoder.error, "header: ", 8) == 0);
            }
            decoder_next(&decoder);
            CHECK(memory_left() == 0);
        } while (allocations() >= fail);
        CHECK_TEXT(text, whole);
        count_memory(0, false);
        buffer_clear(&bytes);
    }
}

static void parse_without_memory(void)
{
    static const char text[] = "{\"x\": [1, \"two\", {\"three\": null}]}";
    long fail = 0;
    json_t *json;

    do {
        char error[100] = "";

        now_at("allocation %ld", fail);
        count_memory(++fail, false);
        json = parse_json("header", (const unsigned char *)text, strlen(text),
                          error, sizeof error);
        if (json == NULL)
            CHECK_TEXT(error, "header: no memory");
        json_decref(json);
        CHECK(memory_left() == 0);
    } while (json == NULL);
    CHECK(fail > 5);
}

/* --- Encoding ------------------------------------------------------------- */

static void encode_without_memory(void)
{
    const struct message message = {
        .byteorder = LITTLE,
        .content_type = "binary/\xf0\x9f\x90\xb6",
        .content_encoding = "y",
        .content = (const unsigned char *)"content",
        .content_length = 7,
    };

    for (size_t before = 0; before < 40; before += 39) {
        struct buffer buffer = {NULL, 0, 0, 0};
        long fail = 0;
        bool good;

        CHECK(buffer_append(&buffer, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                            before));
        do {
            long kept;
            size_t capacity = buffer.capacity;

            now_at("%zu bytes before, allocation %ld", before, fail);
            count_memory(++fail, false);
            good = message_encode(&message, &buffer);
            kept = memory_left();
            if (!good) {
                CHECK(buffer.len == before);
                CHECK(before == 0 ||
                      memcmp(buffer_head(&buffer), "xxxx", 4) == 0);
                CHECK(before > 0 || buffer.memory == NULL);
                CHECK(kept == 0 || buffer.capacity != capacity);
            }
        } while (!good);
        CHECK(fail > 5);
        count_memory(0, false);
        buffer_clear(&buffer);
    }
}

static void header_too_long(void)
{
    static char type[70000];
    struct message message = {
        .byteorder = BIG, .content_type = type, .content_encoding = "y"};
    struct buffer buffer = {NULL, 0, 0, 0};
    struct decoder decoder;
    size_t overhead;

    CHECK(message_encode(&message, &buffer));
    overhead = buffer.len - 2;
    buffer_clear(&buffer);
    CHECK(buffer_append(&buffer, "before", 6));

    memset(type, 'x', MOST_HEADER - overhead);
    CHECK(message_encode(&message, &buffer));
    CHECK(buffer.len == 6 + 2 + MOST_HEADER);
    decoder_start(&decoder, 0);
    CHECK(decode(&decoder, buffer_head(&buffer) + 6, buffer.len - 6) ==
          DECODE_MESSAGE);
    CHECK(decoder.header_length == MOST_HEADER);
    CHECK(strcmp(decoder.message.content_type, type) == 0);
    decoder_next(&decoder);
    buffer_truncate(&buffer, 6);

    type[MOST_HEADER - overhead] = 'x';
    CHECK(!message_encode(&message, &buffer));
    CHECK(buffer.len == 6 && memcmp(buffer_head(&buffer), "before", 6) == 0);
    memset(type, 'x', sizeof type - 1);
    CHECK(!message_encode(&message, &buffer));
    CHECK(buffer.len == 6);
    type[0] = '\xff'; /* no UTF-8 */
    type[1] = '\0';
    CHECK(!message_encode(&message, &buffer));
    CHECK(buffer.len == 6);
    buffer_clear(&buffer);
}

/* A random text in UTF-8 of at most 20 characters. */
static void make_text(char *text)
{
    static const char *const characters[] = {
        "a",
        "/",
        "\"",
        "\\",
        "\n",
        "\x01",
        "\x1f",
        "\x7f",
        "\xc3\xa9",
        "\xe2\x82\xac",
        "\xf0\x9f\x90\xb6",
        "{",
        "\xef\xbb\xbf",
        "\xef\xbf\xbf",
    };

    text[0] = '\0';
    for (unsigned i = chance(20); i > 0; i--) {
        const char *next =
            characters[chance(sizeof characters / sizeof characters[0])];

        memcpy(text, next, strlen(next) + 1);
        text += strlen(next);
    }
}

static void there_and_back(void)
{
    static unsigned char content[3000];

    for (int round = 0; round < 5000; round++) {
        char type[100], encoding[100];
        struct message message = {
            .byteorder = chance(2) == 0 ? LITTLE : BIG,
            .content_type = type,
            .content_encoding = encoding,
            .content = content,
            .content_length = chance(4) > 0 ? chance(100) : chance(3000),
        };
        struct buffer bytes = {NULL, 0, 0, 0}, again = {NULL, 0, 0, 0};
        struct decoder decoder;
        const struct message *back = &decoder.message;

        now_at("round %d", round);
        make_text(type);
        make_text(encoding);
        for (size_t i = 0; i < message.content_length; i++)
            content[i] = (unsigned char)chance(256);
        CHECK(message_encode(&message, &bytes));
        decoder_start(&decoder, sizeof content);
        CHECK(decode(&decoder, buffer_head(&bytes), bytes.len) ==
              DECODE_MESSAGE);
        CHECK(decoder_length(&decoder) == bytes.len);
        CHECK(back->byteorder == message.byteorder);
        CHECK_TEXT(back->content_type, type);
        CHECK_TEXT(back->content_encoding, encoding);
        CHECK(back->content_length == message.content_length);
        CHECK(memcmp(back->content, content, back->content_length) == 0);
        CHECK(message_encode(back, &again));
        CHECK(again.len == bytes.len);
        CHECK(memcmp(buffer_head(&again), buffer_head(&bytes), bytes.len) == 0);
        decoder_next(&decoder);
        buffer_clear(&bytes);
        buffer_clear(&again);
    }
}

static void as_the_wire_has_it(void)
{
    static const char wanted[] =
        "\0\x67{\"byteorder\": \"big\", \"content-type\": \"text/json\", "
        "\"content-encoding\": \"utf-8\", \"content-length\": 2}{}";
    const struct message message = {
        .byteorder = BIG,
        .content_type = "text/json",
        .content_encoding = "utf-8",
        .content = (const unsigned char *)"{}",
        .content_length = 2,
    };
    struct buffer bytes = {NULL, 0, 0, 0};

    CHECK(message_encode(&message, &bytes));
    CHECK(bytes.len >= 2);
    CHECK(read_number(buffer_head(&bytes), 2, BIG) == sizeof wanted - 1 - 4);
    CHECK(bytes.len == sizeof wanted - 1);
    CHECK(memcmp(buffer_head(&bytes) + 2, wanted + 2, bytes.len - 2) == 0);
    buffer_clear(&bytes);
}

/* --- Numbers -------------------------------------------------------------- */

static void numbers(void)
{
    for (size_t len = 0; len <= 8; len++) {
        for (size_t at = 0; at < 9; at++) {
            unsigned char bytes[32], copy[32];

            for (size_t i = 0; i < sizeof bytes; i++)
                copy[i] = bytes[i] = (unsigned char)chance(256);
            for (int order = LITTLE; order <= BIG; order++) {
                unsigned long long wanted = 0, got;

                now_at("%zu bytes at %zu, order %d", len, at, order);
                for (size_t i = 0; i < len; i++)
                    wanted = wanted * 256 +
                             bytes[at + (order == BIG ? i : len - 1 - i)];
                got = read_number(bytes + at, len, (enum byteorder)order);
                CHECK(got == wanted);
                memset(bytes + at, 0, len);
                write_number(bytes + at, len, (enum byteorder)order, wanted);
                CHECK(memcmp(bytes, copy, sizeof bytes) == 0);
            }
        }
    }
    CHECK(read_number((const unsigned char *)"\1\2\3\4\5\6\7\x88", 8, BIG) ==
          0x0102030405060788);
    CHECK(read_number((const unsigned char *)"\1\2\3\4\5\6\7\x88", 8, LITTLE) ==
          0x8807060504030201);
    CHECK(read_number((const unsigned char *)"\xff\xfe", 2, BIG) == 0xfffe);
    CHECK(read_number((const unsigned char *)"\xff\xfe", 2, LITTLE) == 0xfeff);
}

static void own_order(void)
{
    const uint32_t number = 0x01020304;
    unsigned char bytes[4];

    memcpy(bytes, &number, 4);
    CHECK(read_number(bytes, 4, own_byteorder()) == number);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        {"a message gives the same result wherever it is cut", every_cut},
        {"messages give the same results for every receive size to 4,096",
         every_step},
        {"a thousand messages in a row are decoded one by one",
         messages_in_a_row},
        {"no byte behind what has come is read", nothing_read_too_far},
        {"a decoder says in which part the bytes so far end", where_bytes_end},
        {"every error of a header is told in the words of the specification",
         every_error},
        {"every error of content is told in the words of the specification",
         every_error_of_content},
        {"content-length is an integer in range, and nothing that looks like "
         "one",
         odd_numbers},
        {"text that is no UTF-8, a lone surrogate and a zero are errors in any "
         "string",
         text_that_is_no_text},
        {"a zero byte ends nothing", zeros},
        {"values may be 2,048 deep and not more", deep_nesting},
        {"a gigabyte that is announced takes no memory", big_announcement},
        {"of a header that takes megabytes, some hundred bytes are kept",
         little_is_kept},
        {"decoding without memory, wherever it ends, is an error and leaks "
         "nothing",
         decode_without_memory},
        {"a text that there is no memory to parse is an error and leaks "
         "nothing",
         parse_without_memory},
        {"encoding without memory, wherever it ends, appends nothing and leaks "
         "nothing",
         encode_without_memory},
        {"a header that two bytes cannot count is not encoded",
         header_too_long},
        {"random messages are the same after encoding and decoding",
         there_and_back},
        {"a message is encoded with the keys and blanks of the specification",
         as_the_wire_has_it},
        {"numbers of every length, in both orders, at any address", numbers},
        {"the order of this machine is known", own_order},
        {NULL, NULL},
    };

    return run_tests(tests, argc, argv);
}

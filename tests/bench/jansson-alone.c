/*
 * jansson-alone: an instrument. Does, again and again, what Jansson has to do
 * for one request and its answer, and nothing else: parses the header, looks up
 * its four values, and the same for JSON content; packs and writes the result,
 * if it is JSON, and the header of the answer. Tells how much CPU time that
 * takes. So it shows what of a server's cost is the library's.
 *
 * What it writes must be, byte for byte, the answer that it was given.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../common/options.h" /* struct options, parse_argument() … */
#include "../../common/report.h"  /* die() */
#include "file.h"                 /* struct file, read_file() */

/* A message, taken apart by hand. */
struct parts {
    const char *header, *content;
    size_t header_length, content_length;
};

static struct parts take_apart(const struct file *message)
{
    size_t header_length = (size_t)message->bytes[0] << 8 | message->bytes[1];
    const char *bytes = (const char *)message->bytes;

    if (message->len < 2 + header_length)
        die("not a message");
    return (struct parts){bytes + 2, bytes + 2 + header_length, header_length,
                          message->len - 2 - header_length};
}

static json_t *parse(const char *text, size_t len)
{
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

    if (json == NULL)
        die("not JSON: %.*s", (int)len, text);
    return json;
}

static const char *look_up(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static void parse_request(const struct parts *request)
{
    json_t *header = parse(request->header, request->header_length);
    const char *type = look_up(header, "content-type");
    json_t *content;

    if (look_up(header, "byteorder") == NULL ||
        look_up(header, "content-encoding") == NULL ||
        json_integer_value(json_object_get(header, "content-length")) !=
            (json_int_t)request->content_length)
        die("not a header");
    if (type != NULL && strcmp(type, "text/json") == 0) {
        content = parse(request->content, request->content_length);
        if (look_up(content, "action") == NULL ||
            look_up(content, "value") == NULL)
            die("not a search");
        json_decref(content);
    }
    json_decref(header);
}

/* Writes a value, which is taken over, and compares. */
static void dump(json_t *json, const char *expected, size_t len)
{
    char *text = json_dumps(json, 0);

    if (text == NULL || strlen(text) != len || memcmp(text, expected, len) != 0)
        die("Jansson writes %s, not %.*s", text, (int)len, expected);
    free(text);
    json_decref(json);
}

/* Writes the answer; its values are given, as they are to a server. */
static void dump_answer(const struct parts *answer, const json_t *header,
                        const char *result)
{
    if (result != NULL)
        dump(json_pack("{s:o}", "result", json_string(result)), answer->content,
             answer->content_length);
    dump(json_pack("{s:s, s:s, s:s, s:I}", "byteorder",
                   look_up(header, "byteorder"), "content-type",
                   look_up(header, "content-type"), "content-encoding",
                   look_up(header, "content-encoding"), "content-length",
                   (json_int_t)answer->content_length),
         answer->header, answer->header_length);
}

int main(int argc, char **argv)
{
    struct options options = {
        .arguments = "ROUNDS REQUEST ANSWER",
        .purpose = "Measures what Jansson takes to read what is in the file "
                   "REQUEST, and to write\nwhat is in ANSWER.",
        .least_arguments = 3,
        .most_arguments = 3,
        .no_address = true,
        .no_timeout = true,
    };
    struct file files[2];
    struct parts request, answer;
    json_t *header, *content;
    struct timespec time;
    long rounds;

    parse_options(&options, argc, argv);
    rounds = parse_argument(&options, "rounds", options.rest[0], 1, 1000000000);
    for (int i = 0; i < 2; i++)
        files[i] = read_file(options.rest[i + 1]);
    request = take_apart(&files[0]);
    answer = take_apart(&files[1]);
    header = parse(answer.header, answer.header_length);
    content = json_loadb(answer.content, answer.content_length, 0, NULL);
    for (long i = 0; i < rounds; i++) {
        parse_request(&request);
        dump_answer(&answer, header, look_up(content, "result"));
    }
    json_decref(header);
    json_decref(content);
    free(files[0].bytes);
    free(files[1].bytes);
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) < 0)
        die("clock_gettime: %s", strerror(errno));
    printf("CPU time %.3f us\n",
           ((double)time.tv_sec * 1e9 + (double)time.tv_nsec) / 1e3 /
               (double)rounds);
    return fflush(stdout) == EOF ? EXIT_FAILURE : EXIT_SUCCESS;
}

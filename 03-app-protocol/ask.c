/* ask: see ask.h. Read ask() at the end first. */
#include "ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/options.h" /* struct options, usage_error() */
#include "../common/quote.h"   /* quote() */
#include "../common/report.h"  /* die(), warn(), print_text() */
#include "json.h"              /* parse_json() */
#include "request.h"           /* request_make(), request_from_line() … */

const struct options ask_options = {
    .arguments = "HOST PORT ACTION [VALUE...]",
    .purpose = "Asks a server, and prints its answer. ACTION is: search "
               "VALUE; sum N...; or\nanother word, sent with VALUE as "
               "bytes, with nothing between. - asks what\nstandard input "
               "says, a request a line.",
    .timeout = "the longest time for each phase",
    .least_arguments = 3,
    .most_arguments = -1,
};

static void print_json(const struct client *client)
{
    const struct message *response = &client->decoder.message;
    char flaw[256];
    json_t *json = parse_json("content", response->content,
                              response->content_length, flaw, sizeof flaw);
    json_t *result = json_object_get(json, "result");
    const char *error = json_string_value(json_object_get(json, "error"));

    if (json == NULL)
        die("response from %s: %s", client->server.text, flaw);
    if (error != NULL)
        die("response from %s: error %s", client->server.text,
            quote(error, strlen(error)).text);
    if (!json_is_string(result))
        die("response from %s: neither result nor error is a string in it",
            client->server.text);
    print_text("Got result: ", json_string_value(result),
               json_string_length(result));
    json_decref(json);
}

static void print_response(const struct client *client)
{
    const struct message *response = &client->decoder.message;

    if (message_is_json(response)) {
        print_json(client);
    } else if (strcmp(response->content_type, "binary/uint64") == 0) {
        if (response->content_length != 8)
            die("response from %s: a sum of %zu bytes, not 8",
                client->server.text, response->content_length);
        printf("Got sum: %llu\n",
               read_number(response->content, 8, response->byteorder));
    } else {
        printf("Got response: %s\n",
               quote(response->content, response->content_length).text);
    }
    if (fflush(stdout) == EOF || ferror(stdout))
        die("standard output: %s", strerror(errno));
}

static void ask_one(struct client *client, struct request *request)
{
    if (!client_ask(client, &request->message))
        die("%s", client->error);
    print_response(client);
    request_free(request);
}

/* Asks what each line of standard input says. */
static void ask_lines(struct client *client)
{
    struct request request;
    const char *flaw;
    char *line = NULL;
    size_t size = 0;
    ssize_t len;

    while (errno = 0,
           (len = getline(&line, &size, stdin)) >= 0 && !ferror(stdin)) {
        if (len > 0 && line[len - 1] == '\n')
            line[--len] = '\0';
        if (strlen(line) != (size_t)len)
            die("standard input: a line with a zero byte");
        flaw = request_from_line(&request, line);
        if (flaw != NULL)
            die("standard input: %s", flaw);
        ask_one(client, &request);
    }
    if (ferror(stdin) || !feof(stdin)) /* it may also have lacked memory */
        die("standard input: %s", strerror(errno));
    free(line);
}

/* Asks what the words of the command line say. */
static void ask_words(struct client *client, const struct options *options)
{
    struct request request;
    const char *flaw = request_make(&request, options->rest);

    if (flaw != NULL)
        usage_error(options, "request", options->rest[0], flaw);
    ask_one(client, &request);
}

void ask(struct client *client, const struct options *options)
{
    char *const *words = options->rest;

    if (strcmp(words[0], "-") != 0)
        ask_words(client, options);
    else if (words[1] != NULL)
        usage_error(options, "argument", words[1], "one too many");
    else
        ask_lines(client);
    if (!client_finish(client))
        die("%s", client->error);
    if (client->error[0] != '\0')
        warn("%s", client->error);
    client_close(client);
}

/*
 * message-tool: makes messages of words, and shows what is in messages. Bytes
 * go to standard output and come from standard input, so that a message can
 * be looked at, kept, cut, and sent by nc.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/buffer.h"  /* struct buffer … */
#include "../common/options.h" /* struct options, parse_options() … */
#include "../common/quote.h"   /* quote() */
#include "../common/report.h"  /* die() */
#include "message.h"           /* message_encode(), decode() … */
#include "request.h"           /* request_make() … */

static void check_output(void)
{
    if (fflush(stdout) == EOF || ferror(stdout))
        die("standard output: %s", strerror(errno));
}

static void encode_words(const struct options *options, char *const *words)
{
    struct request request;
    struct buffer bytes = {NULL, 0, 0, 0};
    const char *flaw = request_make(&request, words);

    if (flaw != NULL)
        usage_error(options, "request", words[0], flaw);
    if (!message_encode(&request.message, &bytes))
        die("request: %s", strerror(ENOMEM));
    fwrite(buffer_head(&bytes), 1, bytes.len, stdout);
    check_output();
    buffer_clear(&bytes);
    request_free(&request);
}

static void show(const struct decoder *decoder)
{
    const struct message *message = &decoder->message;
    struct quoted type =
        quote(message->content_type, strlen(message->content_type));
    struct quoted encoding =
        quote(message->content_encoding, strlen(message->content_encoding));

    printf("length           %zu\n", decoder->header_length);
    printf("byteorder        '%s'\n",
           message->byteorder == BIG ? "big" : "little");
    printf("content-type     %s\n", type.text);
    printf("content-encoding %s\n", encoding.text);
    printf("content-length   %zu\n", message->content_length);
    printf("content          %s\n",
           quote(message->content, message->content_length).text);
    check_output();
}

/* Shows each complete message at the head of input, and takes it away. */
static void show_messages(struct decoder *decoder, struct buffer *input)
{
    for (;;) {
        switch (decode(decoder, buffer_head(input), input->len)) {
        case DECODE_MORE:
            return;
        case DECODE_ERROR:
            die("standard input: %s", decoder->error);
        case DECODE_MESSAGE:
            show(decoder);
            buffer_consume(input, decoder_length(decoder));
            decoder_next(decoder);
        }
    }
}

/* Reads a byte at a time if that is how they come: it makes no difference. */
static void decode_input(void)
{
    struct decoder decoder;
    struct buffer input = {NULL, 0, 0, 0};
    unsigned char buf[4096];
    ssize_t n;

    decoder_start(&decoder, 1 << 30);
    while ((n = read(STDIN_FILENO, buf, sizeof buf)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("standard input: %s", strerror(errno));
        if (!buffer_append(&input, buf, (size_t)n))
            die("standard input: %s", strerror(ENOMEM));
        show_messages(&decoder, &input);
    }
    if (input.len > 0)
        die("standard input: end of stream inside the %s",
            decoder_place(&decoder));
    decoder_next(&decoder);
}

int main(int argc, char **argv)
{
    struct options options = {
        .arguments = "encode ACTION [VALUE...] | decode",
        .purpose = "encode writes a request to standard output, decode shows "
                   "the messages on\nstandard input.",
        .least_arguments = 1,
        .most_arguments = -1,
        .no_timeout = true,
        .no_address = true,
    };
    char **words;

    signal(SIGPIPE, SIG_IGN);
    parse_options(&options, argc, argv);
    words = options.rest;
    if (strcmp(words[0], "encode") == 0 && words[1] != NULL)
        encode_words(&options, words + 1);
    else if (strcmp(words[0], "decode") == 0 && words[1] == NULL)
        decode_input();
    else
        usage_error(&options, "command", words[0],
                    "neither \"encode ACTION\" nor \"decode\"");
    return EXIT_SUCCESS;
}

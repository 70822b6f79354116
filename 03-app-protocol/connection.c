/*
 * connection: see connection.h for what each function promises. Read
 * connection_advance() near the end first. Every byte goes this way:
 *
 *     channel -> input -> decode() -> answer() -> output -> channel
 */
#include "connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/report.h"   /* warn(), narrate(), narrate_text() */
#include "../common/selector.h" /* SELECTOR_READ, SELECTOR_WRITE */
#include "answer.h"             /* answer(), answer_error() */

enum {
    MOST_DRAINED = 1 << 20, /* bytes that are read in a lingering close */
    RESTS_FOR_A_KIB = 16    /* of JSON */
};

static void enter(struct connection *connection, enum phase phase)
{
    connection->phase = phase;
    connection->phase_began = true;
}

struct connection *connection_new(struct channel *channel,
                                  struct address_name peer, size_t most_content)
{
    struct connection *connection = calloc(1, sizeof *connection);

    if (connection == NULL || channel == NULL) {
        if (channel != NULL)
            channel->calls->free(channel);
        free(connection);
        return NULL;
    }
    connection->channel = channel;
    connection->peer = peer;
    connection->waits = IO_WANT_READ;
    decoder_start(&connection->decoder, most_content);
    enter(connection, HANDSHAKE);
    return connection;
}

void connection_free(struct connection *connection)
{
    decoder_next(&connection->decoder);
    buffer_clear(&connection->input);
    buffer_clear(&connection->output);
    connection->channel->calls->free(connection->channel);
    free(connection);
}

/* A peer's fault, or the network's, is told also to who said -q, in one line:
 * what comes of it, as that the reply to it cannot be sent, is no news. */
static void note(struct connection *connection, const char *why)
{
    if (connection->reason[0] != '\0')
        return;
    warn("connection from %s: %s", connection->peer.text, why);
    snprintf(connection->reason, sizeof connection->reason, "%s", why);
}

void connection_fail(struct connection *connection, const char *why)
{
    note(connection, why);
    enter(connection, ENDED);
}

/* --- One step ------------------------------------------------------------- */

/* What has come and is not answered never will be. */
static void forget_input(struct connection *connection)
{
    connection->last = true;
    buffer_clear(&connection->input);
    decoder_next(&connection->decoder);
    connection->decoded = DECODE_MORE;
}

/* Nothing more can be understood. The channel may have told the peer why, and
 * so the end is a lingering close. */
static void give_up(struct connection *connection, const char *why)
{
    note(connection, why);
    forget_input(connection);
    enter(connection, CLOSING);
}

static void open_channel(struct connection *connection)
{
    struct channel *channel = connection->channel;

    connection->waits = channel->calls->open(channel);
    if (connection->waits == IO_OK)
        enter(connection, IDLE);
    else if (connection->waits == IO_ERROR || connection->waits == IO_END)
        give_up(connection, channel->error);
}

static void receive_input(struct connection *connection)
{
    struct channel *channel = connection->channel;
    unsigned char buf[16384];
    struct io io = channel->calls->read(channel, buf, sizeof buf);

    connection->waits = io.status;
    switch (io.status) {
    case IO_OK:
        if (!buffer_append(&connection->input, buf, io.count)) {
            connection_fail(connection, strerror(ENOMEM));
            return;
        }
        if (connection->phase == IDLE)
            enter(connection, REQUEST);
        connection->decoded =
            decode(&connection->decoder, buffer_head(&connection->input),
                   connection->input.len);
        connection->waits = IO_WANT_READ;
        return;
    case IO_END:
        connection->ended = true;
        return;
    case IO_ERROR:
        give_up(connection, channel->error);
        return;
    default: /* not now */
        return;
    }
}

/* Returns how many bytes of JSON a reply costs: those of the header, which has
 * been parsed if all of it has come, and those of the content, which will be.
 */
static size_t cost(const struct connection *connection)
{
    const struct decoder *decoder = &connection->decoder;
    const struct message *message = &decoder->message;

    if (connection->decoded == DECODE_MORE && decoder->step != AT_CONTENT)
        return 0;
    if (connection->decoded != DECODE_MESSAGE || !message_is_json(message))
        return decoder->header_length;
    return decoder->header_length + message->content_length;
}

/*
 * A reply is due, to whatever is at the head of input. To parse long JSON takes
 * as long as hundreds of ordinary requests. So who has sent it leaves turns to
 * the others: so many that fewer than one in a hundred of their answers is
 * late. Where there are no others, a turn is over at once. It pays first: who
 * is refused then has paid, too, and so has who comes anew for each request.
 */
static void begin_reply(struct connection *connection)
{
    connection->rests = cost(connection) / 1024 * RESTS_FOR_A_KIB;
    enter(connection, connection->rests > 0 ? RESTING : RESPONSE);
}

static void end_rest(struct connection *connection)
{
    connection->rests = 0;
    enter(connection, RESPONSE);
}

/* Leaves a turn to the others, if it owes one. */
static bool rest(struct connection *connection)
{
    if (connection->phase != RESTING)
        return false;
    connection->rests--;
    if (connection->rests == 0)
        end_rest(connection);
    return true;
}

/* Queues the reply to what breaks a rule, which is the last. */
static void refuse(struct connection *connection, const char *why)
{
    note(connection, why);
    forget_input(connection);
    enter(connection, RESPONSE);
    if (!answer_error(connection->reason, &connection->output))
        enter(connection, ENDED);
}

static void narrate_request(const struct connection *connection)
{
    const struct message *request = &connection->decoder.message;

    if (message_is_json(request))
        narrate_text("Received request", request->content,
                     request->content_length, "from %s", connection->peer.text);
    else
        narrate_text("Received", request->content_type,
                     strlen(request->content_type), "request from %s",
                     connection->peer.text);
}

/* Answers the request at the head of input. What of the next one is there
 * already stays, and is looked at. */
static void respond(struct connection *connection)
{
    struct decoder *decoder = &connection->decoder;
    struct buffer *input = &connection->input;
    char error[256];

    narrate_request(connection);
    if (!answer(&decoder->message, &connection->output, error, sizeof error)) {
        refuse(connection, error);
        return;
    }
    narrate("Sending response to %s", connection->peer.text);
    buffer_consume(input, decoder_length(decoder));
    decoder_next(decoder);
    connection->decoded = decode(decoder, buffer_head(input), input->len);
    enter(connection, RESPONSE);
}

/* The client has finished sending, and what it has sent is not complete. */
static void refuse_part(struct connection *connection)
{
    char error[80];

    snprintf(error, sizeof error, "end of stream inside the %s",
             decoder_place(&connection->decoder));
    if (connection->channel->error[0] == '\0')
        refuse(connection, error);
    else /* it was not polite, and so nobody reads */
        give_up(connection, error);
}

static bool reply_is_due(const struct connection *connection)
{
    return connection->decoded != DECODE_MORE ||
           (connection->ended && connection->input.len > 0);
}

/* Does what the input asks for: one request at most. */
static void handle_input(struct connection *connection)
{
    if (reply_is_due(connection) && connection->phase != RESPONSE)
        begin_reply(connection);
    if (connection->phase == RESTING)
        return;
    if (connection->decoded == DECODE_MESSAGE)
        respond(connection);
    else if (connection->decoded == DECODE_ERROR)
        refuse(connection, connection->decoder.error);
    else if (connection->ended && connection->input.len > 0)
        refuse_part(connection);
    else if (connection->ended)
        enter(connection, CLOSING);
}

/* Enters the phase that comes after a response. */
static void begin_next(struct connection *connection)
{
    if (connection->last)
        enter(connection, CLOSING);
    else if (connection->decoded != DECODE_MORE)
        begin_reply(connection); /* the next one is here */
    else if (connection->input.len > 0)
        enter(connection, REQUEST);
    else
        enter(connection, IDLE);
}

static void send_output(struct connection *connection)
{
    struct channel *channel = connection->channel;
    struct io io = channel->calls->write(
        channel, buffer_head(&connection->output), connection->output.len);

    if (io.status == IO_ERROR) {
        connection_fail(connection, channel->error);
        return;
    }
    connection->waits = io.status == IO_OK ? IO_WANT_WRITE : io.status;
    buffer_consume(&connection->output, io.count);
    if (connection->output.len > 0)
        return;
    connection->waits = IO_WANT_READ;
    begin_next(connection);
}

/*
 * Lingering close: says that nothing more will come, and reads on until the
 * peer's end. Were the socket closed with bytes unread, the kernel would send
 * a reset, which destroys what of the last response is on its way.
 */
static void take_leave(struct connection *connection)
{
    struct channel *channel = connection->channel;
    unsigned char buf[16384];
    enum io_status status = channel->calls->close_write(channel);

    if (status == IO_OK && connection->ended)
        status = IO_END;
    if (status == IO_OK) {
        struct io io = channel->calls->read(channel, buf, sizeof buf);

        status = io.status == IO_OK ? IO_WANT_READ : io.status;
        connection->drained += io.count;
    }
    connection->waits = status;
    if (status == IO_END || status == IO_ERROR ||
        connection->drained >= MOST_DRAINED)
        enter(connection, ENDED);
    if (connection->phase == ENDED && connection->reason[0] == '\0')
        snprintf(connection->reason, sizeof connection->reason, "%s",
                 channel->error);
}

/* Is there something to be done that needs no bytes from the network? */
static bool next_is_here(const struct connection *connection)
{
    return connection->output.len == 0 &&
           (connection->phase == RESTING || connection->phase == RESPONSE ||
            connection->channel->calls->pending(connection->channel));
}

/*
 * One place decides what is read when: nothing while output waits, which is
 * the backpressure, and nothing while a request that is here already has had
 * no answer.
 */
void connection_advance(struct connection *connection)
{
    if (connection->phase == HANDSHAKE)
        open_channel(connection);
    if (connection->phase == HANDSHAKE)
        return;
    if (connection->output.len > 0)
        send_output(connection);
    if (connection->output.len == 0 && connection->phase < CLOSING &&
        !rest(connection)) {
        if (connection->decoded == DECODE_MORE)
            receive_input(connection);
        if (connection->phase < CLOSING)
            handle_input(connection);
        if (connection->output.len > 0)
            send_output(connection);
    }
    if (connection->phase == CLOSING)
        take_leave(connection);
}

/* The next request, if it is here already, will be announced by no readiness.
 * Its answer can be sent when the connection is writable, which it nearly
 * always is: so it has its turn after all who are ready now. */
int connection_interest(const struct connection *connection)
{
    return next_is_here(connection) || connection->waits == IO_WANT_WRITE
               ? SELECTOR_WRITE
               : SELECTOR_READ;
}

/* --- The end of a phase --------------------------------------------------- */

void connection_expire(struct connection *connection, double seconds)
{
    char why[80];

    switch (connection->phase) {
    case REQUEST: /* who has begun to ask is told */
        snprintf(why, sizeof why, "request not complete after %g s", seconds);
        refuse(connection, why);
        if (connection->phase == RESPONSE)
            connection_advance(connection);
        return;
    case RESTING: /* long enough, however few turns that were */
        end_rest(connection);
        return;
    case CLOSING:
        enter(connection, ENDED);
        return;
    default:
        snprintf(why, sizeof why, "%s after %g s",
                 connection->phase == HANDSHAKE ? "handshake not complete"
                 : connection->phase == IDLE    ? "no request"
                                                : "response not taken",
                 seconds);
        connection_fail(connection, why);
    }
}

void connection_stop(struct connection *connection)
{
    bool idle = connection->phase == IDLE;

    if (connection->phase == CLOSING)
        return;
    forget_input(connection);
    if (connection->output.len > 0)
        return; /* it may go */
    snprintf(connection->reason, sizeof connection->reason, "the server stops");
    if (connection->phase == HANDSHAKE) {
        enter(connection, ENDED);
        return;
    }
    enter(connection, CLOSING);
    connection_advance(connection);
    if (idle && connection->drained == 0)
        enter(connection, ENDED); /* there is nothing that a reset could hurt */
}

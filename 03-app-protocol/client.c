/*
 * client: see client.h for what each function promises. Read client_ask() at
 * the end first, then exchange(), which sends and receives at the same time.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../common/deadline.h" /* now_ms() */

enum { CLOSING_MS = 2000 }; /* longest wait for the server's end */

static bool fail(struct client *client, const char *what, const char *why)
{
    snprintf(client->error, sizeof client->error, "%s %s: %s", what,
             client->server.text, why);
    return false;
}

/* Waits until the descriptor is ready for one of the events, or returns false
 * and errno, which is ETIMEDOUT when the deadline has come. */
static bool wait_for(int fd, int events, long long deadline)
{
    struct pollfd wait = {.fd = fd, .events = (short)events};
    long long left;
    int ready;

    do {
        left = deadline - now_ms();
        ready = left > 0 ? poll(&wait, 1, (int)left) : 0;
    } while (ready < 0 && errno == EINTR);
    if (ready == 0)
        errno = ETIMEDOUT;
    return ready > 0;
}

/* Returns the deadline of a phase that begins now. */
static long long phase_ends(const struct client *client)
{
    return now_ms() + client->timeout_ms + 1;
}

static int events_of(enum io_status want)
{
    return want == IO_WANT_WRITE ? POLLOUT : POLLIN;
}

/* --- Connecting ----------------------------------------------------------- */

/* Returns a socket that is connected to this address, or -1 and errno. */
static int connect_to(const struct addrinfo *address, long long deadline)
{
    int fd = socket(address->ai_family, address->ai_socktype, 0);
    int error = 0;
    socklen_t len = sizeof error;

    if (fd < 0)
        return -1;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        !set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) ||
        (connect(fd, address->ai_addr, address->ai_addrlen) < 0 &&
         errno != EINPROGRESS && errno != EINTR) ||
        !wait_for(fd, POLLOUT, deadline) ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error == 0)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

int connect_any(const struct addrinfo *addresses, long long deadline,
                struct address_name *server)
{
    int fd = -1;

    for (const struct addrinfo *at = addresses; at != NULL && fd < 0;
         at = at->ai_next) {
        *server = name_address(at->ai_addr, at->ai_addrlen);
        fd = connect_to(at, deadline);
    }
    return fd;
}

/* The handshake, where the channel has one. */
static bool open_channel(struct client *client, long long deadline)
{
    struct channel *channel = client->channel;
    enum io_status status;

    while ((status = channel->calls->open(channel)) != IO_OK) {
        if (status == IO_ERROR || status == IO_END)
            return fail(client, "handshake with", channel->error);
        if (!wait_for(channel->fd, events_of(status), deadline))
            return fail(client, "handshake with", strerror(errno));
    }
    return true;
}

/* TCP and, over it, what the channel needs, by one deadline for both. */
static bool begin(struct client *client)
{
    long long deadline = phase_ends(client);
    int fd = connect_any(client->addresses, deadline, &client->server);

    if (fd < 0)
        return fail(client, "connect to", strerror(errno));
    client->channel = client->channels.make(fd, client->channels.context);
    if (client->channel == NULL) /* and fd is closed */
        return fail(client, "connect to", strerror(ENOMEM));
    client->broken = client->ended = false;
    decoder_start(&client->decoder, client->most_content);
    return open_channel(client, deadline);
}

/* --- Asking --------------------------------------------------------------- */

/* Reads once. Returns what the channel says; IO_OK: there is more in input. */
static enum io_status receive(struct client *client)
{
    unsigned char buf[16384];
    struct channel *channel = client->channel;
    struct io io = channel->calls->read(channel, buf, sizeof buf);

    if (io.status == IO_OK && !buffer_append(&client->input, buf, io.count)) {
        snprintf(channel->error, sizeof channel->error, "%s", strerror(ENOMEM));
        io.status = IO_ERROR;
    }
    client->ended = io.status == IO_END || io.status == IO_ERROR;
    return io.status;
}

/* Sends what the channel takes of output. Returns IO_OK if that was all of it,
 * and else what it waits for. A write that fails ends the sending, but not the
 * exchange: the reply that says why may be here. */
static enum io_status send_some(struct client *client, struct buffer *output)
{
    struct channel *channel = client->channel;
    struct io io =
        channel->calls->write(channel, buffer_head(output), output->len);

    buffer_consume(output, io.count);
    if (io.status == IO_ERROR) {
        client->broken = true;
        buffer_clear(output);
    }
    if (output->len == 0)
        return IO_OK;
    return io.status == IO_OK ? IO_WANT_WRITE : io.status;
}

/* Sends output and receives the response, each as far as it goes, until the
 * response is complete. */
static bool exchange(struct client *client, struct buffer *output)
{
    struct channel *channel = client->channel;
    const struct buffer *input = &client->input;
    long long deadline = phase_ends(client);

    for (;;) {
        enum io_status sending = IO_OK, receiving;
        int events;

        if (output->len > 0) {
            sending = send_some(client, output);
            if (sending == IO_OK) /* the next phase begins */
                deadline = phase_ends(client);
        }
        receiving = receive(client);
        switch (decode(&client->decoder, buffer_head(input), input->len)) {
        case DECODE_MESSAGE:
            return true;
        case DECODE_ERROR:
            return fail(client, "response from", client->decoder.error);
        case DECODE_MORE:
            break;
        }
        if (client->ended)
            return fail(client, "response from",
                        receiving == IO_ERROR
                            ? channel->error
                            : "truncated: the connection closed early");
        if (receiving == IO_OK)
            continue; /* there may be more */
        events = events_of(receiving);
        if (output->len > 0)
            events |= events_of(sending);
        if (!wait_for(channel->fd, events, deadline))
            return fail(client,
                        output->len > 0 ? "request to" : "response from",
                        strerror(errno));
    }
}

/* Forgets the last response. Returns whether the connection can be used for
 * another: the server has not closed it, and has sent nothing unasked. */
static bool reusable(struct client *client)
{
    if (client->channel == NULL)
        return false;
    buffer_consume(&client->input, decoder_length(&client->decoder));
    decoder_next(&client->decoder);
    return !client->broken && !client->ended &&
           receive(client) == IO_WANT_READ && client->input.len == 0;
}

static bool ask_once(struct client *client, const struct message *request)
{
    struct buffer output = {NULL, 0, 0, 0};
    bool good;

    if (client->channel == NULL && !begin(client))
        return false;
    if (!message_encode(request, &output))
        return fail(client, "request to", "no memory, or too long a header");
    good = exchange(client, &output);
    if (output.len > 0)
        client->broken = true; /* the rest was not wanted */
    buffer_clear(&output);
    return good;
}

bool client_ask(struct client *client, const struct message *request)
{
    bool used = reusable(client);
    bool good;

    if (!used)
        client_close(client);
    good = ask_once(client, request);
    /* The server may have closed before it saw this request, and we could not
     * know. To ask twice is as to ask once here: each request is idempotent, as
     * HTTP calls it (RFC 9110, 9.2.2). */
    if (!good && used && client->input.len == 0 && client->ended) {
        client_close(client);
        good = ask_once(client, request);
    }
    if (!good)
        client_close(client);
    return good;
}

bool client_finish(struct client *client)
{
    long long deadline = now_ms() + CLOSING_MS;
    struct channel *channel = client->channel;
    enum io_status status;

    client->error[0] = '\0';
    if (channel == NULL)
        return true;
    buffer_consume(&client->input, decoder_length(&client->decoder));
    decoder_next(&client->decoder);
    while (!client->ended) {
        status = client->broken ? IO_OK : channel->calls->close_write(channel);
        if (status == IO_OK)
            status = receive(client);
        if (client->input.len > 0 && !client->broken)
            return fail(client, "response from", "more than was asked for");
        buffer_clear(&client->input);
        if (status == IO_OK && now_ms() < deadline)
            continue; /* there may be more */
        if (!client->ended &&
            !wait_for(channel->fd, events_of(status), deadline)) {
            fail(client, "end of", strerror(errno));
            return true;
        }
    }
    if (channel->error[0] != '\0')
        fail(client, "end of", channel->error);
    return true;
}

void client_close(struct client *client)
{
    if (client->channel != NULL)
        client->channel->calls->free(client->channel);
    client->channel = NULL;
    decoder_next(&client->decoder);
    buffer_clear(&client->input);
}

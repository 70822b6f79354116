/*
 * tls-many: ask-many over TLS, an instrument. It asks a server one request
 * again and again, on many connections of TLS 1.3, and tells how many answers a
 * second came, and how long they took. Each certificate is verified, and each
 * answer must be, byte for byte, the one that it was given. With --anew a
 * connection is made for each request, by a full handshake, or, with --resume,
 * by one that resumes the session of the last: that each was of this kind is
 * counted at the end.
 *
 * What was said in ask-many of latencies holds here, too. The bytes go through
 * the channel of stage 4; it ends when something is amiss.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../../04-tls/tls.h"         /* tls_client_context() */
#include "../../04-tls/tls_channel.h" /* tls_make_connecting() */
#include "../../common/histogram.h"   /* struct histogram … */
#include "../../common/net.h"         /* resolve(), set_socket_option() … */
#include "../../common/options.h"  /* parse_options(), parse_argument() … */
#include "../../common/report.h"   /* die(), narrate() */
#include "../../common/selector.h" /* selector_wait(), selector_next() … */
#include "file.h"                  /* struct file, read_file() */
#include "results.h"               /* now_ns(), print_results() */

struct connection {
    enum { CLOSED, SHAKING_HANDS, TALKING, LEAVING } phase;
    struct tls_client client; /* with a session of its own */
    struct channel *channel;
    long rounds;           /* how many answers are still due */
    size_t sent, received; /* bytes of this request, and of its answer */
    uint64_t began;        /* ns */
};

struct asker {
    const struct addrinfo *address;
    long timeout_ms;
    bool anew, resume;
    struct file request, answer;
    SSL_CTX *context;
    struct selector *selector;
    int talking; /* how many connections */
    struct histogram latencies;
};

/* --- A connection --------------------------------------------------------- */

static _Noreturn void fail(const char *what, const struct channel *channel)
{
    die("%s: %s", what, channel->error[0] != '\0' ? channel->error : "the end");
}

/* As in ask-many, connect() need not wait for the server on loopback. */
static void open_connection(struct asker *asker, struct connection *connection)
{
    const struct addrinfo *to = asker->address;
    int fd = socket(to->ai_family, to->ai_socktype, 0);

    if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen) < 0 ||
        !set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        !selector_add(asker->selector, fd, SELECTOR_WRITE, connection))
        die("connect: %s", strerror(errno));
    connection->channel = tls_make_connecting(fd, &connection->client);
    if (connection->channel == NULL)
        die("TLS: %s", strerror(ENOMEM));
    connection->phase = SHAKING_HANDS;
}

static void free_connection(struct asker *asker, struct connection *connection)
{
    if (connection->channel != NULL) {
        selector_remove(asker->selector, connection->channel->fd);
        connection->channel->calls->close_write(connection->channel);
        connection->channel->calls->free(connection->channel);
    }
    connection->channel = NULL;
    connection->phase = CLOSED;
    if (!asker->resume) {
        SSL_SESSION_free(connection->client.session);
        connection->client.session = NULL;
    }
}

/* --- One step of it: each returns what to wait for ------------------------ */

static int shake_hands(struct connection *connection)
{
    struct channel *channel = connection->channel;
    enum io_status status = channel->calls->open(channel);

    if (status == IO_ERROR || status == IO_END)
        fail("handshake", channel);
    if (status == IO_OK)
        connection->phase = TALKING;
    return status == IO_WANT_READ ? SELECTOR_READ : SELECTOR_WRITE;
}

/* Sends what the server takes of the request. */
static int send_request(const struct asker *asker,
                        struct connection *connection)
{
    struct channel *channel = connection->channel;
    const struct file *request = &asker->request;

    while (connection->sent < request->len) {
        struct io io =
            channel->calls->write(channel, request->bytes + connection->sent,
                                  request->len - connection->sent);

        if (io.status == IO_ERROR)
            fail("write", channel);
        if (io.status != IO_OK)
            return SELECTOR_READ | SELECTOR_WRITE;
        connection->sent += io.count;
    }
    return SELECTOR_READ;
}

static void read_answer(const struct asker *asker,
                        struct connection *connection)
{
    struct channel *channel = connection->channel;
    unsigned char buf[16384];
    struct io io = channel->calls->read(channel, buf, sizeof buf);

    if (io.status == IO_ERROR || io.status == IO_END)
        fail("the server closed early", channel);
    if (io.status != IO_OK)
        return;
    if (connection->rounds == 0 ||
        io.count > asker->answer.len - connection->received ||
        memcmp(buf, asker->answer.bytes + connection->received, io.count) != 0)
        die("not the answer that was expected");
    connection->received += io.count;
}

/* Waits for the server's end, so that all of its work is counted. How it says
 * so is its own matter, and that nginx does it without close_notify is no
 * reason to forget the session: so TLS is not asked. */
static int leave(struct connection *connection)
{
    struct channel *channel = connection->channel;
    enum io_status status = channel->calls->close_write(channel);
    unsigned char buf[16384];
    ssize_t n;

    if (status == IO_WANT_WRITE)
        return SELECTOR_WRITE;
    n = recv(channel->fd, buf, sizeof buf, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        connection->phase = CLOSED;
    return SELECTOR_READ;
}

/* --- Many of them --------------------------------------------------------- */

/* With anew, a latency begins with connect(). */
static void begin_round(struct asker *asker, struct connection *connection)
{
    connection->sent = connection->received = 0;
    connection->began = now_ns();
    if (connection->phase == CLOSED)
        open_connection(asker, connection);
}

static void end_round(struct asker *asker, struct connection *connection)
{
    histogram_add(&asker->latencies, now_ns() - connection->began);
    connection->rounds--;
    if (asker->anew)
        connection->phase = LEAVING;
    else if (connection->rounds > 0)
        begin_round(asker, connection);
    else
        asker->talking--;
}

/* Does all that can be done without waiting. */
static void advance(struct asker *asker, struct connection *connection)
{
    struct channel *channel = connection->channel;
    int interest = SELECTOR_READ;

    if (connection->phase == SHAKING_HANDS)
        interest = shake_hands(connection);
    if (connection->phase == TALKING) {
        do
            read_answer(asker, connection);
        while (channel->calls->pending(channel));
        if (connection->received == asker->answer.len)
            end_round(asker, connection);
    }
    if (connection->phase == TALKING)
        interest = send_request(asker, connection);
    if (connection->phase == LEAVING)
        interest = leave(connection);
    if (connection->phase != CLOSED) {
        if (!selector_modify(asker->selector, channel->fd, interest))
            die("selector: %s", strerror(errno));
        return;
    }
    free_connection(asker, connection);
    if (connection->rounds > 0)
        begin_round(asker, connection);
    else
        asker->talking--;
}

/* Asks on count connections until each has had so many answers. */
static void talk(struct asker *asker, struct connection *connections, int count,
                 long rounds)
{
    struct selector_event event;

    asker->talking = count;
    for (int i = 0; i < count; i++) {
        connections[i].rounds = rounds;
        begin_round(asker, &connections[i]);
        advance(asker, &connections[i]);
    }
    while (asker->talking > 0) {
        if (selector_wait(asker->selector, asker->timeout_ms) <= 0)
            die("no answer after %ld ms", asker->timeout_ms);
        while (selector_next(asker->selector, &event))
            advance(asker, event.data);
    }
}

/* --- The program ---------------------------------------------------------- */

static SSL_CTX *make_context(const char *ca)
{
    const struct tls_files files = {NULL, NULL, ca};
    struct tls_error error = {""};
    SSL_CTX *context = tls_client_context(&files, "app-protocol/1", &error);

    if (context == NULL)
        die("%s", error.text);
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    return context;
}

int main(int argc, char **argv)
{
    static struct asker asker;
    const char *ca = NULL;
    long rounds = 10, anew = 0, resume = 0, idle = 0, at_once = 64, resumed;
    const struct program_option own[] = {
        {.name = "ca",
         .value = "FILE",
         .purpose = "whom to trust",
         .choice = &ca,
         .needed = true},
        {.name = "rounds",
         .value = "N",
         .number = &rounds,
         .purpose = "requests for each connection (10)",
         .lowest = 1,
         .highest = 1000000000},
        {.name = "anew",
         .value = "0|1",
         .number = &anew,
         .highest = 1,
         .purpose = "1: a new connection for each request (0)"},
        {.name = "resume",
         .value = "0|1",
         .number = &resume,
         .highest = 1,
         .purpose = "1: with anew, all but the first resume a session (0)"},
        {.name = "idle",
         .value = "N",
         .number = &idle,
         .highest = 1000000,
         .purpose = "connections besides, which ask once, before (0)"},
        {.name = "at-once",
         .value = "N",
         .number = &at_once,
         .lowest = 1,
         .highest = 1000000,
         .purpose = "how many of these connect at a time (64)"},
        {.name = NULL},
    };
    struct options options = {
        .arguments = "HOST PORT CONNECTIONS REQUEST ANSWER",
        .purpose = "Sends what is in the file REQUEST on CONNECTIONS over TLS, "
                   "expects what is in\nANSWER, and measures how long it "
                   "takes.",
        .least_arguments = 5,
        .most_arguments = 5,
        .own = own,
    };
    struct connection *connections;
    struct addrinfo *list;
    int active, count;
    uint64_t began;

    signal(SIGPIPE, SIG_IGN);
    parse_options(&options, argc, argv);
    active = (int)parse_argument(&options, "connections", options.rest[0], 1,
                                 1000000);
    count = active + (int)idle;
    asker.request = read_file(options.rest[1]);
    asker.answer = read_file(options.rest[2]);
    asker.timeout_ms = options.timeout_ms;
    asker.resume = resume;
    asker.context = make_context(ca);
    list = resolve(options.host, options.port, 0);
    asker.address = list;
    asker.selector = selector_new(selector_backends[0]);
    connections = calloc((size_t)count, sizeof *connections);
    if (connections == NULL || asker.selector == NULL)
        die("%d connections: %s", count, strerror(errno));
    raise_descriptor_limit();
    for (int i = 0; i < count; i++)
        connections[i].client = (struct tls_client){asker.context, options.host,
                                                    "app-protocol/1", NULL};

    for (int i = active; i < count; i += (int)at_once)
        talk(&asker, connections + i,
             count - i < at_once ? count - i : (int)at_once, 1);
    asker.anew = anew;
    if (!anew || resume)
        talk(&asker, connections, active, 1);
    memset(&asker.latencies, 0, sizeof asker.latencies);
    narrate("Connected");
    began = now_ns();
    talk(&asker, connections, active, rounds);
    print_results(&asker.latencies, began);
    resumed = SSL_CTX_sess_hits(asker.context);
    if (resumed != (anew && resume ? rounds * active : 0))
        die("%ld of %ld handshakes resumed a session", resumed,
            rounds * active);

    asker.resume = false; /* no session is kept */
    for (int i = 0; i < count; i++)
        free_connection(&asker, &connections[i]);
    selector_free(asker.selector);
    freeaddrinfo(list);
    SSL_CTX_free(asker.context);
    free(connections);
    free(asker.request.bytes);
    free(asker.answer.bytes);
    return EXIT_SUCCESS;
}

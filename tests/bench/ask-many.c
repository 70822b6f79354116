/*
 * ask-many: an instrument. Asks a server one request again and again, on many
 * connections, and tells how many answers a second came, and how long they
 * took. Each answer must be, byte for byte, the one that it was given.
 *
 * On each connection there is one request at a time. What was said in
 * c10k-client holds here, too: a server that stands still is asked less, and
 * the latencies flatter it. It knows nothing of the protocol, and ends when
 * something is amiss.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../common/histogram.h" /* struct histogram … */
#include "../../common/net.h"       /* resolve(), set_socket_option() … */
#include "../../common/options.h"   /* parse_options(), parse_argument() … */
#include "../../common/report.h"    /* die(), narrate() */
#include "../../common/selector.h"  /* selector_wait(), selector_next() … */
#include "file.h"                   /* struct file, read_file() */
#include "results.h"                /* now_ns(), print_results() */

struct connection {
    int fd;
    long rounds;     /* how many requests are still to be sent */
    size_t received; /* bytes of this answer */
    uint64_t began;  /* ns */
};

struct asker {
    const struct addrinfo *address;
    long timeout_ms;
    bool anew; /* a connection for each request */
    struct file request, answer;
    struct selector *selector;
    int talking; /* how many connections */
    struct histogram latencies;
};

/* On loopback, the kernel connects without the server's help, so nobody waits
 * here, unless the server's backlog is full. */
static void open_connection(struct asker *asker, struct connection *connection)
{
    const struct addrinfo *to = asker->address;
    int fd = socket(to->ai_family, to->ai_socktype, 0);

    if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen) < 0 ||
        !set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) ||
        !selector_add(asker->selector, fd, SELECTOR_READ, connection))
        die("connect: %s", strerror(errno));
    connection->fd = fd;
}

static void close_connection(struct asker *asker, struct connection *connection)
{
    selector_remove(asker->selector, connection->fd);
    close(connection->fd);
}

/* With anew, a latency begins with connect(). */
static void ask(struct asker *asker, struct connection *connection)
{
    size_t len = asker->request.len;

    connection->received = 0;
    connection->began = now_ns();
    if (asker->anew)
        open_connection(asker, connection);
    if (send(connection->fd, asker->request.bytes, len, 0) != (ssize_t)len)
        die("send: not all was taken: %s", strerror(errno));
}

static void end_round(struct asker *asker, struct connection *connection)
{
    histogram_add(&asker->latencies, now_ns() - connection->began);
    if (asker->anew)
        close_connection(asker, connection);
    if (--connection->rounds > 0)
        ask(asker, connection);
    else
        asker->talking--;
}

static void hear(struct asker *asker, struct connection *connection)
{
    unsigned char buf[16384];
    ssize_t n = recv(connection->fd, buf, sizeof buf, 0);
    size_t len = n > 0 ? (size_t)n : 0;

    if (n <= 0)
        die("the server closed early: %s", n < 0 ? strerror(errno) : "the end");
    if (connection->rounds == 0 ||
        len > asker->answer.len - connection->received ||
        memcmp(buf, asker->answer.bytes + connection->received, len) != 0)
        die("not the answer that was expected");
    connection->received += len;
    if (connection->received == asker->answer.len)
        end_round(asker, connection);
}

/* Asks on count connections until each has had so many answers. */
static void talk(struct asker *asker, struct connection *connections, int count,
                 long rounds)
{
    struct selector_event event;

    asker->talking = count;
    for (int i = 0; i < count; i++) {
        connections[i].rounds = rounds;
        ask(asker, &connections[i]);
    }
    while (asker->talking > 0) {
        if (selector_wait(asker->selector, asker->timeout_ms) <= 0)
            die("no answer after %ld ms", asker->timeout_ms);
        while (selector_next(asker->selector, &event))
            hear(asker, event.data);
    }
}

int main(int argc, char **argv)
{
    static struct asker asker;
    long rounds = 10, anew = 0, idle = 0;
    const struct program_option own[] = {
        {0, "rounds", "N", "requests for each connection (10)",
         .number = &rounds, .lowest = 1, .highest = 1000000000},
        {0, "anew", "0|1", "1: a new connection for each request (0)",
         .number = &anew, .highest = 1},
        {0, "idle", "N", "connections besides, which ask once, before (0)",
         .number = &idle, .highest = 1000000},
        {.name = NULL},
    };
    struct options options = {
        .arguments = "HOST PORT CONNECTIONS REQUEST ANSWER",
        .purpose = "Sends what is in the file REQUEST on CONNECTIONS, expects "
                   "what is in ANSWER,\nand measures how long it takes.",
        .least_arguments = 5,
        .most_arguments = 5,
        .own = own,
    };
    struct connection *connections;
    struct addrinfo *list;
    int active, count;
    uint64_t began;

    parse_options(&options, argc, argv);
    active = (int)parse_argument(&options, "connections", options.rest[0], 1,
                                 1000000);
    count = active + (int)idle;
    asker.request = read_file(options.rest[1]);
    asker.answer = read_file(options.rest[2]);
    asker.timeout_ms = options.timeout_ms;
    list = resolve(options.host, options.port, 0);
    asker.address = list;
    asker.selector = selector_new(selector_backends[0]);
    connections = calloc((size_t)count, sizeof *connections);
    if (connections == NULL || asker.selector == NULL)
        die("%d connections: %s", count, strerror(errno));
    raise_descriptor_limit();

    for (int i = anew ? active : 0; i < count; i++)
        open_connection(&asker, &connections[i]);
    talk(&asker, connections + active, (int)idle, 1);
    memset(&asker.latencies, 0, sizeof asker.latencies);
    narrate("Connected");
    asker.anew = anew;
    began = now_ns();
    talk(&asker, connections, active, rounds);
    print_results(&asker.latencies, began);
    selector_free(asker.selector);
    freeaddrinfo(list);
    free(connections);
    free(asker.request.bytes);
    free(asker.answer.bytes);
    return EXIT_SUCCESS;
}

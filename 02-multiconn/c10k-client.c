/*
 * c10k-client: an instrument, and not part of the lesson. Opens thousands of
 * connections to an echo server, has a conversation on each, in which it sends
 * a message when the last one's echo is back, checks every byte, and tells how
 * many requests a second there were and how long they took. Idle connections
 * are opened besides, and asked once at the end whether they still stand.
 *
 * A latency is the time from the first send() of a message to the last byte of
 * its echo. A connection waits for an echo before it asks again, so a server
 * that stands still is asked less, and the latencies flatter it ("coordinated
 * omission"): compare servers under the same load only.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../common/deadline.h"  /* now_ms(), struct deadlines … */
#include "../common/histogram.h" /* struct histogram … */
#include "../common/net.h"       /* resolve(), name_address() … */
#include "../common/options.h"   /* parse_options(), parse_argument() … */
#include "../common/report.h"    /* die(), warn(), narrate() */
#include "../common/selector.h"  /* selector_wait(), selector_next() … */

enum {
    CONNECTING_AT_ONCE = 256, /* no more than a server's backlog may hold */
    OFFSETS = 4096            /* where in the pattern a message may begin */
};

enum state { WAITING, CONNECTING, STANDING, TALKING, ENDED };

struct connection {
    enum state state;
    int fd;
    int number;  /* from 1 */
    long rounds; /* how many messages are still to be sent */
    size_t sent; /* bytes of this message */
    size_t received;
    uint64_t began; /* ns: when this message was first sent */
    const struct addrinfo *address;
    struct deadline deadline;
};

struct client {
    struct connection *connections;
    int count;               /* the idle ones among them, which come last */
    int opened;              /* how many have begun to connect */
    int connecting, talking; /* how many do now */
    int failed;
    size_t size; /* of a message */
    unsigned char *pattern;
    const struct addrinfo *address; /* the last one that worked */
    struct selector *selector;
    struct deadlines deadlines;
    struct histogram latencies; /* in ns */
    bool measuring;
    long long now;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The message of this connection and round: neighbours differ, so that an
 * echo that went astray is seen. */
static const unsigned char *message_of(const struct client *client,
                                       const struct connection *connection)
{
    return client->pattern +
           ((size_t)connection->number * 31 + (size_t)connection->rounds * 17) %
               OFFSETS;
}

static void make_pattern(struct client *client)
{
    uint32_t random = 1; /* the same bytes in each run */

    client->pattern = malloc(client->size + OFFSETS);
    if (client->pattern == NULL)
        die("pattern: %s", strerror(errno));
    for (size_t i = 0; i < client->size + OFFSETS; i++) {
        random = random * 1664525 + 1013904223;
        client->pattern[i] = (unsigned char)(random >> 24);
    }
}

static void set_state(struct client *client, struct connection *connection,
                      enum state state)
{
    client->connecting +=
        (state == CONNECTING) - (connection->state == CONNECTING);
    client->talking += (state == TALKING) - (connection->state == TALKING);
    connection->state = state;
    if (state == CONNECTING || state == TALKING)
        deadline_set(&client->deadlines, &connection->deadline, client->now);
    else
        deadline_clear(&connection->deadline);
}

static void hang_up(struct client *client, struct connection *connection)
{
    if (connection->fd >= 0) {
        selector_remove(client->selector, connection->fd);
        close(connection->fd);
    }
    connection->fd = -1;
    set_state(client, connection, ENDED);
}

static void start(struct client *client, struct connection *connection);

/* Tries the next address, or gives the connection up. */
static void fail(struct client *client, struct connection *connection,
                 const char *why)
{
    const struct addrinfo *to = connection->address;
    bool connecting = connection->state == CONNECTING;

    hang_up(client, connection);
    if (connecting && to->ai_next != NULL) {
        connection->address = to->ai_next;
        start(client, connection);
        return;
    }
    client->failed++;
    warn("connection %d to %s: %s", connection->number,
         name_address(to->ai_addr, to->ai_addrlen).text, why);
}

static void start(struct client *client, struct connection *connection)
{
    const struct addrinfo *to = connection->address;
    int fd;

    set_state(client, connection, CONNECTING);
    fd = socket(to->ai_family, to->ai_socktype, 0);
    if (fd >= 0 &&
        !selector_add(client->selector, fd, SELECTOR_WRITE, connection)) {
        int error = errno;

        close(fd);
        fail(client, connection, strerror(error));
        return;
    }
    connection->fd = fd;
    if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        !set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) ||
        (connect(fd, to->ai_addr, to->ai_addrlen) < 0 && errno != EINPROGRESS &&
         errno != EINTR))
        fail(client, connection, strerror(errno));
}

static void end_connect(struct client *client, struct connection *connection)
{
    int error;
    socklen_t len = sizeof error;

    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error == 0 &&
        !selector_modify(client->selector, connection->fd, SELECTOR_READ))
        error = errno;
    if (error != 0) {
        fail(client, connection, strerror(error));
        return;
    }
    client->address = connection->address;
    set_state(client, connection, STANDING);
}

static bool must_wait(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* Sends what is left of the message. */
static void speak(struct client *client, struct connection *connection)
{
    ssize_t n =
        send(connection->fd, message_of(client, connection) + connection->sent,
             client->size - connection->sent, 0);

    if (n < 0 && !must_wait()) {
        fail(client, connection, strerror(errno));
        return;
    }
    if (n > 0) {
        connection->sent += (size_t)n;
        deadline_set(&client->deadlines, &connection->deadline, client->now);
    }
    if (!selector_modify(client->selector, connection->fd,
                         connection->sent < client->size
                             ? SELECTOR_READ | SELECTOR_WRITE
                             : SELECTOR_READ))
        fail(client, connection, strerror(errno));
}

static void begin_round(struct client *client, struct connection *connection)
{
    connection->sent = connection->received = 0;
    connection->began = now_ns();
    client->now = (long long)(connection->began / 1000000);
    set_state(client, connection, TALKING);
    speak(client, connection);
}

/* The whole echo of a message is back. */
static void end_round(struct client *client, struct connection *connection)
{
    if (client->measuring)
        histogram_add(&client->latencies, now_ns() - connection->began);
    if (--connection->rounds > 0)
        begin_round(client, connection);
    else
        set_state(client, connection, STANDING);
}

static void hear(struct client *client, struct connection *connection)
{
    static unsigned char buf[65536];
    ssize_t n = recv(connection->fd, buf, sizeof buf, 0);
    size_t len = n > 0 ? (size_t)n : 0;

    if (n < 0 && must_wait())
        return;
    if (n < 0)
        fail(client, connection, strerror(errno));
    else if (n == 0)
        fail(client, connection, "connection closed early");
    else if (connection->state != TALKING ||
             len > connection->sent - connection->received)
        fail(client, connection, "more than was sent");
    else if (memcmp(buf, message_of(client, connection) + connection->received,
                    len) != 0)
        fail(client, connection, "not what was sent");
    else {
        connection->received += len;
        deadline_set(&client->deadlines, &connection->deadline, client->now);
        if (connection->received == client->size)
            end_round(client, connection);
    }
}

static void take_turn(struct client *client)
{
    struct selector_event event;
    struct connection *late;
    long long before = client->now;

    if (selector_wait(client->selector,
                      deadlines_wait(&client->deadlines, client->now)) < 0)
        die("selector: %s", strerror(errno));
    client->now = now_ms();
    while (selector_next(client->selector, &event)) {
        struct connection *connection = event.data;

        if (connection->state == CONNECTING)
            end_connect(client, connection);
        else if (event.ready & SELECTOR_READ)
            hear(client, connection);
        else
            speak(client, connection);
    }
    while ((late = deadlines_expired(&client->deadlines, before)) != NULL)
        fail(client, late, strerror(ETIMEDOUT));
}

/* Opens all connections, a limited number at once. */
static void open_all(struct client *client)
{
    do {
        while (client->opened < client->count &&
               client->connecting < CONNECTING_AT_ONCE) {
            struct connection *connection =
                &client->connections[client->opened++];

            connection->address = client->address;
            start(client, connection);
        }
        if (client->connecting > 0)
            take_turn(client);
    } while (client->connecting > 0 || client->opened < client->count);
}

/* Has conversations of so many rounds on count connections, from the one with
 * the index first on, until all have ended. */
static void talk(struct client *client, int first, int count, long rounds)
{
    for (int i = first; i < first + count; i++)
        if (client->connections[i].state == STANDING) {
            client->connections[i].rounds = rounds;
            begin_round(client, &client->connections[i]);
        }
    while (client->talking > 0)
        take_turn(client);
}

/* One line. No stdio: what fails by EINTR is said again. */
static void print_result(const char *name, int decimals, double value,
                         const char *unit)
{
    while (dprintf(STDOUT_FILENO, "%-10s %12.*f%s\n", name, decimals, value,
                   unit) < 0)
        if (errno != EINTR)
            die("standard output: %s", strerror(errno));
}

static void print_results(const struct client *client, double seconds)
{
    static const struct {
        const char *name;
        double share;
    } rows[] = {
        {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1},
    };
    double requests = (double)client->latencies.count;

    print_result("requests/s", 0, requests / seconds, "");
    print_result("MB/s", 3, requests * (double)client->size / seconds / 1e6,
                 "");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        print_result(
            rows[i].name, 3,
            (double)histogram_quantile(&client->latencies, rows[i].share) / 1e6,
            " ms");
}

static void make_connections(struct client *client)
{
    client->connections =
        calloc((size_t)client->count, sizeof *client->connections);
    if (client->connections == NULL)
        die("connections: %s", strerror(errno));
    for (int i = 0; i < client->count; i++) {
        client->connections[i].number = i + 1;
        client->connections[i].fd = -1;
        client->connections[i].deadline.owner = &client->connections[i];
    }
}

int main(int argc, char **argv)
{
    static struct client client;
    const char *backend = selector_backends[0];
    long rounds = 10, size = 64, idle = 0;
    const struct program_option own[] = {
        {'b', "backend", "NAME", "epoll, poll or select (the best there is)",
         .choice = &backend, .choices = selector_backends},
        {0, "rounds", "N", "messages on each connection (10)",
         .number = &rounds, .lowest = 1, .highest = 1000000000},
        {0, "size", "BYTES", "length of a message, to 1 GiB (64)",
         .number = &size, .lowest = 1, .highest = 1 << 30},
        {0, "idle", "N", "connections that say nothing, besides (0)",
         .number = &idle, .highest = 1000000},
        {.name = NULL},
    };
    struct options options = {
        .arguments = "HOST PORT CONNECTIONS",
        .purpose = "Talks to an echo server on CONNECTIONS, checks what comes "
                   "back, and\nmeasures how long it takes.",
        .least_arguments = 3,
        .most_arguments = 3,
        .own = own,
    };
    struct addrinfo *list;
    int active;
    uint64_t began;

    signal(SIGPIPE, SIG_IGN);
    parse_options(&options, argc, argv);
    active = (int)parse_argument(&options, "connections", options.rest[0], 1,
                                 1000000);
    raise_descriptor_limit();
    list = resolve(options.host, options.port, 0);
    client.address = list;
    client.count = active + (int)idle;
    client.size = (size_t)size;
    deadlines_start(&client.deadlines, options.timeout_ms);
    client.selector = selector_new(backend);
    if (client.selector == NULL)
        die("%s: %s", backend, strerror(errno));
    make_pattern(&client);
    make_connections(&client);

    client.now = now_ms();
    open_all(&client);
    narrate("Connected %d connections", client.count - client.failed);
    client.measuring = true;
    began = now_ns();
    talk(&client, 0, active, rounds);
    print_results(&client, (double)(now_ns() - began) / 1e9);
    client.measuring = false;
    talk(&client, active, (int)idle, 1);

    for (int i = 0; i < client.count; i++)
        hang_up(&client, &client.connections[i]);
    selector_free(client.selector);
    freeaddrinfo(list);
    free(client.connections);
    free(client.pattern);
    if (client.failed > 0)
        die("%d of %d connections failed", client.failed, client.count);
    return EXIT_SUCCESS;
}

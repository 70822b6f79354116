/*
 * server: see server.h. Read serve() at the end first, then take_turn(). What
 * becomes of one client stands in connection.c; here is who has a turn, how
 * long each may take, and how many there may be.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/deadline.h" /* struct deadlines … */
#include "../common/net.h"      /* start_listening(), accept_connection() … */
#include "../common/report.h"   /* die(), warn(), narrate() */
#include "../common/selector.h" /* selector_wait(), selector_next() … */
#include "../common/signal_pipe.h" /* open_signal_pipe(), read_signal() … */
#include "connection.h"            /* connection_advance() … */
#include "workers.h"               /* become_worker(), wait_for_workers() */

enum {
    RESTING_MS = 2000,  /* longest rest of a costly request */
    CLOSING_MS = 2000,  /* longest wait for the peer's end */
    STOPPING_MS = 1000, /* longest wait for responses under way */
    NEWCOMERS = 32      /* in a turn, as in stage 2 */
};

struct server {
    const struct service *service;
    struct selector *selector;
    int listener;     /* -1: the server stops */
    int signals;      /* a signal pipe */
    int lifeline;     /* ends when the parent of this worker does; or -1 */
    bool lacking;     /* accept() has failed for want of something */
    bool resting;     /* and the listener is left out of the next wait */
    long connections; /* how many there are */
    struct deadlines phases, rests, closing, stopping;
    long long now; /* when the last wait ended */
};

/* --- One connection ------------------------------------------------------- */

/* Ends it. If output waits, the end is a reset, as in stage 2: else the kernel
 * would go on offering what it has of it. */
static void part(struct server *server, struct connection *connection)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    int fd = connection->channel->fd;

    narrate("Closing connection to %s%s%s", connection->peer.text,
            connection->reason[0] != '\0' ? ": " : "", connection->reason);
    selector_remove(server->selector, fd);
    deadline_clear(&connection->deadline);
    if (connection->output.len > 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    connection_free(connection);
    server->connections--;
}

static bool stopping(const struct server *server)
{
    return server->listener < 0;
}

/* Which queue is for the deadlines of this phase? */
static struct deadlines *queue_of(struct server *server, enum phase phase)
{
    switch (phase) {
    case RESTING:
        return &server->rests;
    case CLOSING:
        return &server->closing;
    default:
        return &server->phases;
    }
}

/* It has had a turn: what does it wait for now, and how long? A deadline is
 * set when a phase begins, and put off by nothing. */
static void watch(struct server *server, struct connection *connection)
{
    if (connection->phase != ENDED &&
        !selector_modify(server->selector, connection->channel->fd,
                         connection_interest(connection)))
        connection_fail(connection, strerror(errno));
    if (connection->phase == ENDED) {
        part(server, connection);
        return;
    }
    if (connection->phase_began && !stopping(server))
        deadline_set(queue_of(server, connection->phase), &connection->deadline,
                     server->now);
    connection->phase_began = false;
}

static void advance(struct server *server, struct connection *connection)
{
    connection_advance(connection);
    watch(server, connection);
}

/* Ends the phases whose deadline had come when the last wait began, at the time
 * before. Not those whose deadline came since: what they wait for may have
 * come, too, and they have had their turn for it only now. */
static void end_phases(struct server *server, struct deadlines *deadlines,
                       long long before)
{
    struct connection *connection;

    while ((connection = deadlines_expired(deadlines, before))) {
        connection_expire(connection, (double)deadlines->length_ms / 1000);
        watch(server, connection);
    }
}

/* --- New ones ------------------------------------------------------------- */

static bool prepare(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
           set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

static void greet(struct server *server, int fd, struct address_name peer)
{
    const struct service *service = server->service;
    struct connection *connection =
        connection_new(service->channels.make(fd, service->channels.context),
                       peer, service->most_content);

    if (connection == NULL) {
        warn("connection from %s: %s", peer.text, strerror(ENOMEM));
        return;
    }
    if (!prepare(fd) ||
        !selector_add(server->selector, fd, SELECTOR_READ, connection)) {
        warn("connection from %s: descriptor %d: %s", peer.text, fd,
             errno == ERANGE ? "too high for select()" : strerror(errno));
        connection_free(connection);
        return;
    }
    connection->deadline.owner = connection;
    server->connections++;
    narrate("Accepted connection from %s", peer.text);
    advance(server, connection);
}

static bool is_full(const struct server *server)
{
    return server->connections >= server->service->most_connections;
}

/* As in stage 2, and no more than there may be. */
static void welcome(struct server *server)
{
    struct address_name peer;
    int fd = accept_connection(server->listener, &peer);
    bool lacking = fd < 0 && errno != EAGAIN;

    if (lacking && !server->lacking)
        warn("accept: %s", strerror(errno));
    server->lacking = server->resting = lacking;
    for (int i = 1; fd >= 0; i++) {
        greet(server, fd, peer);
        fd = i < NEWCOMERS && !is_full(server)
                 ? accept_connection(server->listener, &peer)
                 : -1;
    }
}

/* The listener is left out of the wait while it rests, and while there are as
 * many connections as there may be. */
static void watch_listener(struct server *server)
{
    if (server->listener >= 0 &&
        !selector_modify(server->selector, server->listener,
                         server->resting || is_full(server) ? 0
                                                            : SELECTOR_READ))
        server->resting = true;
}

/* --- The server ----------------------------------------------------------- */

/* Nobody new; a response on its way may go on, for a while. Nobody rests any
 * more: what has had no answer never will. */
static void stop(struct server *server)
{
    struct connection *connection;

    if (stopping(server))
        return;
    selector_remove(server->selector, server->listener);
    close(server->listener);
    server->listener = -1;
    server->resting = false;
    while ((connection = deadlines_expired(&server->phases, LLONG_MAX)) ||
           (connection = deadlines_expired(&server->rests, LLONG_MAX)) ||
           (connection = deadlines_expired(&server->closing, LLONG_MAX))) {
        connection_stop(connection);
        deadline_set(&server->stopping, &connection->deadline, server->now);
        watch(server, connection);
    }
}

static void hear_signal(struct server *server)
{
    int number = read_signal(server->signals);

    if (number == SIGHUP)
        server->service->reload(server->service->channels.context);
    else if (number != 0)
        stop(server);
}

/* The parent of this worker has been killed: stop as if it had said so. */
static void hear_lifeline(struct server *server)
{
    selector_remove(server->selector, server->lifeline);
    raise(SIGTERM);
}

static long sooner(long a, long b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Returns how long the next wait may be, in milliseconds, or -1: for ever. */
static long patience(const struct server *server)
{
    long ms = server->resting ? 100 : -1;

    ms = sooner(ms, deadlines_wait(&server->phases, server->now));
    ms = sooner(ms, deadlines_wait(&server->rests, server->now));
    ms = sooner(ms, deadlines_wait(&server->closing, server->now));
    return sooner(ms, deadlines_wait(&server->stopping, server->now));
}

/* Waits until somebody is ready, and gives everybody who is a turn. */
static void take_turn(struct server *server)
{
    struct selector_event event;
    long long before = server->now;
    bool calling = false;

    watch_listener(server);
    if (selector_wait(server->selector, patience(server)) < 0)
        die("selector: %s", strerror(errno));
    server->now = now_ms();
    server->resting = false;
    while (selector_next(server->selector, &event))
        if (event.fd == server->signals)
            hear_signal(server);
        else if (event.fd == server->lifeline)
            hear_lifeline(server);
        else if (event.fd == server->listener)
            calling = true;
        else
            advance(server, event.data);
    if (calling && !stopping(server))
        welcome(server);
    end_phases(server, &server->phases, before);
    end_phases(server, &server->rests, before);
    end_phases(server, &server->closing, before);
    end_phases(server, &server->stopping, before);
}

static void run_server(const struct service *service, int listener, int signals,
                       int lifeline)
{
    struct server server = {
        .service = service,
        .listener = listener,
        .signals = signals,
        .lifeline = lifeline,
        .selector = selector_new(service->backend),
        .now = now_ms(),
    };

    deadlines_start(&server.phases, service->timeout_ms);
    deadlines_start(&server.rests, RESTING_MS);
    deadlines_start(&server.closing, CLOSING_MS);
    deadlines_start(&server.stopping, STOPPING_MS);
    if (server.selector == NULL ||
        !selector_add(server.selector, signals, SELECTOR_READ, NULL) ||
        !selector_add(server.selector, listener, SELECTOR_READ, NULL) ||
        (lifeline >= 0 &&
         !selector_add(server.selector, lifeline, SELECTOR_READ, NULL)))
        die("%s: %s", service->backend, strerror(errno));
    while (!stopping(&server) || server.connections > 0)
        take_turn(&server);
    selector_free(server.selector);
}

/* Signals are caught before the program says that it listens: a script may
 * have nothing more to ask, and stop it at once. */
int serve(const struct service *service)
{
    const unsigned patience_s = STOPPING_MS / 1000 + 1;
    int signals = open_signal_pipe(patience_s);
    int lifeline = -1;
    int listener;

    if (service->reload != NULL)
        add_to_signal_pipe(SIGHUP);
    raise_descriptor_limit();
    listener = start_listening(service->host, service->port);
    if (fcntl(listener, F_SETFL, O_NONBLOCK) < 0)
        die("fcntl: %s", strerror(errno));
    if (service->workers > 1) {
        lifeline = become_worker(service->workers);
        if (lifeline < 0) {
            close(listener);
            return wait_for_workers(signals);
        }
        close(signals);
        signals = open_signal_pipe(patience_s);
    }
    run_server(service, listener, signals, lifeline);
    return 0;
}

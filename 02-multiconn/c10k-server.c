/*
 * c10k-server: multiconn-server for ten thousand clients. It asks the
 * selector instead of select(): with poll and epoll no descriptor is too high,
 * and with epoll an idle client costs nothing. And it finds the silent ones
 * without a look at all. What it does for one client has not changed: hear()
 * and answer() are the same. Read main() at the end first, then, upwards, what
 * it calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/buffer.h"   /* struct buffer, buffer_append() … */
#include "../common/deadline.h" /* now_ms(), struct deadlines … */
#include "../common/net.h"      /* start_listening(), accept_connection() … */
#include "../common/options.h"  /* struct options, parse_options() */
#include "../common/report.h"   /* die(), warn(), narrate(), narrate_bytes() */
#include "../common/selector.h" /* selector_wait(), selector_next() … */

enum { NEWCOMERS = 32 }; /* in a turn, as in discard-server */

struct connection {
    int fd;
    struct buffer output;     /* what the client has not taken yet */
    struct deadline deadline; /* set anew whenever a byte moves */
    struct address_name peer;
};

struct server {
    int listener;
    bool lacking; /* accept() has failed for want of something */
    bool resting; /* and the listener is left out of the next wait */
    struct selector *selector;
    struct deadlines deadlines;
    long long now; /* when the last wait ended */
};

/* The self-pipe: what stop() writes into it, the selector finds. */
static int stop_pipe[2];

/* As in multiconn-server. */
static bool prepare(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
           set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
           set_socket_option(fd, SOL_SOCKET, SO_SNDBUF, 65536);
}

/* Begins a connection: false and errno if it cannot. */
static bool begin(struct server *server, int fd, struct address_name peer)
{
    struct connection *connection = malloc(sizeof *connection);

    if (connection == NULL)
        return false;
    *connection = (struct connection){.fd = fd, .peer = peer};
    connection->deadline.owner = connection;
    if (prepare(fd) &&
        selector_add(server->selector, fd, SELECTOR_READ, connection)) {
        deadline_set(&server->deadlines, &connection->deadline, server->now);
        return true;
    }
    free(connection);
    return false;
}

static void greet(struct server *server, int fd, struct address_name peer)
{
    if (begin(server, fd, peer)) {
        narrate("Accepted connection from %s", peer.text);
        return;
    }
    warn("connection from %s: descriptor %d: %s", peer.text, fd,
         errno == ERANGE ? "too high for select()" : strerror(errno));
    close(fd);
}

/* As in multiconn-server. */
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
        fd = i < NEWCOMERS ? accept_connection(server->listener, &peer) : -1;
    }
}

/* Ends one connection; error is why, or 0 if the client has finished. After an
 * error the end is a reset: a polite one would pass for the end of the echo,
 * and the kernel would go on offering what it has of it. */
static void part(struct server *server, struct connection *connection,
                 int error)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (error != 0) {
        warn("connection from %s: %s", connection->peer.text, strerror(error));
        setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    narrate("Closing connection to %s", connection->peer.text);
    selector_remove(server->selector, connection->fd);
    deadline_clear(&connection->deadline);
    buffer_clear(&connection->output);
    close(connection->fd);
    free(connection);
}

/* A byte has moved: what the connection waits for next, and how long. While
 * output waits, it is not read: that is the backpressure. */
static void watch(struct server *server, struct connection *connection)
{
    deadline_set(&server->deadlines, &connection->deadline, server->now);
    if (!selector_modify(server->selector, connection->fd,
                         connection->output.len > 0 ? SELECTOR_WRITE
                                                    : SELECTOR_READ))
        part(server, connection, errno);
}

static bool must_wait(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* Receives once and answers at once; keeps what the kernel does not take. */
static void hear(struct server *server, struct connection *connection)
{
    unsigned char buf[16384];
    ssize_t received = recv(connection->fd, buf, sizeof buf, 0);
    ssize_t sent;

    if (received < 0 && must_wait())
        return;
    if (received <= 0) {
        part(server, connection, received < 0 ? errno : 0);
        return;
    }
    narrate_bytes("Echoing", buf, (size_t)received, "to %s",
                  connection->peer.text);
    sent = send(connection->fd, buf, (size_t)received, 0);
    if (sent < 0 && must_wait())
        sent = 0;
    if (sent < 0)
        part(server, connection, errno);
    else if (!buffer_append(&connection->output, buf + sent,
                            (size_t)(received - sent)))
        part(server, connection, ENOMEM);
    else
        watch(server, connection);
}

/* Sends what the last turns have left. */
static void answer(struct server *server, struct connection *connection)
{
    ssize_t sent = send(connection->fd, buffer_head(&connection->output),
                        connection->output.len, 0);

    if (sent < 0 && must_wait())
        return;
    if (sent < 0) {
        part(server, connection, errno);
        return;
    }
    buffer_consume(&connection->output, (size_t)sent);
    watch(server, connection);
}

/* Ends those who were late already when the last wait began, at the time
 * before, and have not moved a byte in this turn either. */
static void end_silent(struct server *server, long long before)
{
    struct connection *connection;

    while ((connection = deadlines_expired(&server->deadlines, before)))
        part(server, connection, ETIMEDOUT);
}

/* The listener is watched, or, while it rests, not. If there is no memory to
 * watch it, it rests. */
static void watch_listener(struct server *server)
{
    if (!selector_modify(server->selector, server->listener,
                         server->resting ? 0 : SELECTOR_READ))
        server->resting = true;
}

/* Returns how long the next wait may be, in milliseconds, or -1: for ever. */
static long patience(const struct server *server)
{
    long ms = deadlines_wait(&server->deadlines, server->now);

    return server->resting && (ms < 0 || ms > 100) ? 100 : ms;
}

/* Waits until somebody is ready, and serves everybody who is. Returns false
 * when a signal says to stop. */
static bool take_turn(struct server *server)
{
    struct selector_event event;
    long long before = server->now;
    bool calling = false;

    watch_listener(server);
    if (selector_wait(server->selector, patience(server)) < 0)
        die("selector: %s", strerror(errno));
    server->now = now_ms();
    server->resting = false;
    while (selector_next(server->selector, &event)) {
        struct connection *connection = event.data;

        if (event.fd == stop_pipe[0])
            return false;
        if (event.fd == server->listener)
            calling = true;
        else if (connection->output.len > 0)
            answer(server, connection);
        else
            hear(server, connection);
    }
    if (calling)
        welcome(server);
    end_silent(server, before);
    return true;
}

/* As in multiconn-server, but the loop learns of it from the pipe. */
static void stop(int signal_number)
{
    int error = errno; /* of whatever call the signal came in between */

    if (signal_number == SIGALRM)
        _exit(0);
    while (write(stop_pipe[1], "", 1) < 0 && errno == EINTR)
        ; /* EAGAIN: the pipe is full, and says it already */
    alarm(1);
    errno = error;
}

/* A signal becomes one more descriptor that is ready. The byte stays in the
 * pipe until it is read, so the signal may come at any moment. */
static void catch_signals(void)
{
    struct sigaction on_stop = {.sa_handler = stop};

    if (pipe(stop_pipe) < 0)
        die("pipe: %s", strerror(errno));
    for (int i = 0; i < 2; i++)
        if (fcntl(stop_pipe[i], F_SETFD, FD_CLOEXEC) < 0 ||
            fcntl(stop_pipe[i], F_SETFL, O_NONBLOCK) < 0)
            die("pipe: %s", strerror(errno));
    sigemptyset(&on_stop.sa_mask);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);
    sigaction(SIGALRM, &on_stop, NULL);
}

int main(int argc, char **argv)
{
    static struct server server;
    const char *backend = selector_backends[0];
    const struct program_option own[] = {
        {'b', "backend", "NAME", "epoll, poll or select (the best there is)",
         .choice = &backend, .choices = selector_backends},
        {.name = NULL},
    };
    struct options options = {
        .arguments = "[HOST [PORT]]",
        .purpose = "Sends back what clients send, to thousands at a time.",
        .most_arguments = 2,
        .listens = true,
        .own = own,
    };

    parse_options(&options, argc, argv);
    catch_signals();
    raise_descriptor_limit();
    server.now = now_ms();
    deadlines_start(&server.deadlines, options.timeout_ms);
    server.selector = selector_new(backend);
    if (server.selector == NULL)
        die("%s: %s", backend, strerror(errno));
    server.listener = start_listening(options.host, options.port);
    if (!prepare(server.listener) ||
        !selector_add(server.selector, stop_pipe[0], SELECTOR_READ, NULL) ||
        !selector_add(server.selector, server.listener, SELECTOR_READ, NULL))
        die("listener: %s", strerror(errno));
    while (take_turn(&server))
        ;
    return 0;
}

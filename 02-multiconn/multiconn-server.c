/*
 * multiconn-server: sends back what clients send, to many at a time. It is
 * discard-server that answers: what a client does not take yet is kept, and
 * sent when select() says that there is room. Read main() at the end first,
 * then, upwards, what it calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "../common/buffer.h"   /* struct buffer, buffer_append() … */
#include "../common/deadline.h" /* now_ms() */
#include "../common/net.h"      /* start_listening(), accept_connection() … */
#include "../common/options.h"  /* struct options, parse_options() */
#include "../common/report.h"   /* die(), warn(), narrate(), narrate_bytes() */

enum { NEWCOMERS = 32 }; /* in a turn, as in discard-server */

struct connection {
    struct address_name peer;
    struct buffer output; /* what the client has not taken yet */
    long long progress;   /* when a byte last moved, in ms */
};

/* A connection is in one set: in reading while its output is empty, and in
 * writing until it is empty again. */
struct server {
    int listener;
    bool lacking; /* accept() has failed for want of something */
    bool resting; /* and the listener is left out of the next wait */
    fd_set reading, writing;
    int highest; /* the highest descriptor in them so far */
    struct connection connections[FD_SETSIZE]; /* by descriptor */
    long timeout_ms;
    long patience; /* how long the next wait may be, in ms; -1: for ever */
    long long now; /* when the last wait ended */
};

/*
 * A call that would wait fails with EAGAIN instead. A small answer is sent at
 * once, though the last is not acknowledged yet (TCP_NODELAY). A socket is
 * writable again when a third of its queue is free: the smaller the queue, the
 * slower a reader may be and still make progress.
 */
static bool prepare(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
           set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
           set_socket_option(fd, SOL_SOCKET, SO_SNDBUF, 65536);
}

/* What a connection waits for next, and nothing else. While output waits, it
 * is not read: that is the backpressure. */
static void watch(struct server *server, int fd)
{
    bool answering = server->connections[fd].output.len > 0;

    FD_CLR(fd, answering ? &server->reading : &server->writing);
    FD_SET(fd, answering ? &server->writing : &server->reading);
    if (fd > server->highest)
        server->highest = fd;
}

static void greet(struct server *server, int fd, struct address_name peer)
{
    if (fd >= FD_SETSIZE || !prepare(fd)) {
        warn("connection from %s: descriptor %d: %s", peer.text, fd,
             fd >= FD_SETSIZE ? "too high for select()" : strerror(errno));
        close(fd);
        return;
    }
    server->connections[fd] =
        (struct connection){.peer = peer, .progress = server->now};
    narrate("Accepted connection from %s", peer.text);
    watch(server, fd);
}

/* As in discard-server. */
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
static void part(struct server *server, int fd, int error)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct connection *connection = &server->connections[fd];

    if (error != 0) {
        warn("connection from %s: %s", connection->peer.text, strerror(error));
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    narrate("Closing connection to %s", connection->peer.text);
    FD_CLR(fd, &server->reading);
    FD_CLR(fd, &server->writing);
    buffer_clear(&connection->output);
    close(fd);
}

static bool must_wait(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* Receives once and answers at once. What does not fit into the kernel's
 * queue is kept: never more than buf, since the next is not read before. */
static void hear(struct server *server, int fd)
{
    struct connection *connection = &server->connections[fd];
    unsigned char buf[16384];
    ssize_t received = recv(fd, buf, sizeof buf, 0);
    ssize_t sent;

    if (received < 0 && must_wait())
        return;
    if (received <= 0) {
        part(server, fd, received < 0 ? errno : 0);
        return;
    }
    connection->progress = server->now;
    narrate_bytes("Echoing", buf, (size_t)received, "to %s",
                  connection->peer.text);
    sent = send(fd, buf, (size_t)received, 0);
    if (sent < 0 && must_wait())
        sent = 0;
    if (sent < 0)
        part(server, fd, errno);
    else if (!buffer_append(&connection->output, buf + sent,
                            (size_t)(received - sent)))
        part(server, fd, ENOMEM);
    else
        watch(server, fd);
}

/* Sends what the last turns have left. */
static void answer(struct server *server, int fd)
{
    struct connection *connection = &server->connections[fd];
    ssize_t sent =
        send(fd, buffer_head(&connection->output), connection->output.len, 0);

    if (sent < 0 && must_wait())
        return;
    if (sent < 0) {
        part(server, fd, errno);
        return;
    }
    connection->progress = server->now;
    buffer_consume(&connection->output, (size_t)sent);
    watch(server, fd);
}

static bool is_open(const struct server *server, int fd)
{
    return fd != server->listener &&
           (FD_ISSET(fd, &server->reading) || FD_ISSET(fd, &server->writing));
}

/* Ends the connections that were late already when the last wait began, at the
 * time before, and have not moved a byte in this turn either. Sets the patience
 * for the next wait. */
static void end_silent(struct server *server, long long before)
{
    server->patience = -1;
    for (int fd = 0; fd <= server->highest; fd++) {
        long long due = /* 1 ms more: the clock is cut to whole ones */
            server->connections[fd].progress + server->timeout_ms + 1;
        long left = due > server->now ? (long)(due - server->now) : 0;

        if (!is_open(server, fd))
            continue;
        if (due <= before)
            part(server, fd, ETIMEDOUT);
        else if (server->patience < 0 || left < server->patience)
            server->patience = left;
    }
}

/* Calls pselect(), and lets signals in from the beginning of its wait on. */
static int wait_for(struct server *server, fd_set *readable, fd_set *writable,
                    const sigset_t *open)
{
    long ms = server->patience;
    struct timespec longest;
    int n, error;

    if (server->resting && (ms < 0 || ms > 100))
        ms = 100;
    longest.tv_sec = ms / 1000;
    longest.tv_nsec = ms % 1000 * 1000000;
    n = pselect(server->highest + 1, readable, writable, NULL,
                ms < 0 ? NULL : &longest, open);
    error = errno;
    sigprocmask(SIG_SETMASK, open, NULL);
    errno = error;
    return n;
}

/* Waits until somebody is ready, and serves everybody who is. */
static void take_turn(struct server *server, const sigset_t *open)
{
    fd_set readable = server->reading, writable = server->writing;
    long long before = server->now;

    if (server->resting)
        FD_CLR(server->listener, &readable);
    if (wait_for(server, &readable, &writable, open) < 0) {
        if (errno != EINTR)
            die("pselect: %s", strerror(errno));
        return;
    }
    server->now = now_ms();
    server->resting = false;
    for (int fd = 0; fd <= server->highest; fd++)
        if (FD_ISSET(fd, &writable))
            answer(server, fd);
        else if (fd != server->listener && FD_ISSET(fd, &readable))
            hear(server, fd);
    if (FD_ISSET(server->listener, &readable))
        welcome(server);
    end_silent(server, before);
}

static volatile sig_atomic_t stopping;

/* Ends the loop; and, if something has held it up for a second (a name server,
 * a terminal that nobody reads), the program. */
static void stop(int signal_number)
{
    if (signal_number == SIGALRM)
        _exit(0);
    stopping = 1;
    alarm(1);
}

static void catch_signals(void)
{
    struct sigaction on_stop = {.sa_handler = stop};

    sigemptyset(&on_stop.sa_mask);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);
    sigaction(SIGALRM, &on_stop, NULL);
}

/*
 * Takes turns until a signal says to stop. From the look at stopping on, the
 * signals are blocked, which means that the kernel keeps them, until pselect()
 * waits: one that came in between would be noticed by nobody, and the server
 * would sleep on.
 */
static void serve(struct server *server)
{
    sigset_t stops, open;

    sigemptyset(&open);
    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    for (;;) {
        sigprocmask(SIG_BLOCK, &stops, NULL);
        if (stopping)
            return;
        take_turn(server, &open);
    }
}

int main(int argc, char **argv)
{
    static struct server server;
    struct options options = {
        .arguments = "[HOST [PORT]]",
        .purpose = "Sends back what clients send, to many at a time.",
        .most_arguments = 2,
        .listens = true,
    };

    catch_signals();
    parse_options(&options, argc, argv);

    server.listener = start_listening(options.host, options.port);
    if (server.listener >= FD_SETSIZE || !prepare(server.listener))
        die("listener: descriptor %d: %s", server.listener,
            server.listener >= FD_SETSIZE ? "too high for select()"
                                          : strerror(errno));
    watch(&server, server.listener);
    server.timeout_ms = options.timeout_ms;
    server.patience = -1;
    server.now = now_ms();
    serve(&server);
    return EXIT_SUCCESS;
}

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
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "../common/buffer.h"   /* struct buffer, buffer_append() … */
#include "../common/deadline.h" /* now_ms() */
#include "../common/net.h"      /* start_listening(), accept_connection() … */
#include "../common/options.h"  /* struct options, parse_options() */
#include "../common/report.h"   /* die(), warn(), narrate(), narrate_bytes() */

struct connection {
    struct address_name peer;
    struct buffer output; /* what the client has not taken yet */
    long long progress;   /* when a byte last moved */
};

/* A connection is in one set: in reading while its output is empty, and in
 * writing until it is empty again. */
struct server {
    int listener;
    int highest; /* the highest descriptor so far */
    fd_set reading, writing;
    long timeout_ms;
    long long now;                             /* when this turn began */
    struct connection connections[FD_SETSIZE]; /* by descriptor */
};

static volatile sig_atomic_t stopping;

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

/* Signals wait, except while pselect() does: as in discard-server. */
static void catch_signals(sigset_t *while_waiting)
{
    struct sigaction action = {.sa_handler = stop};
    sigset_t both;

    sigemptyset(&both);
    sigaddset(&both, SIGINT);
    sigaddset(&both, SIGTERM);
    sigprocmask(SIG_BLOCK, &both, while_waiting);
    sigdelset(while_waiting, SIGINT);
    sigdelset(while_waiting, SIGTERM);
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/*
 * A call that would wait fails with EAGAIN instead. A small answer is sent at
 * once, though the last is not acknowledged yet (TCP_NODELAY). A socket is
 * writable when a third of its queue is free: in a small queue, a slow reader
 * makes progress, too.
 */
static bool prepare(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
           set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
           set_socket_option(fd, SOL_SOCKET, SO_SNDBUF, 65536);
}

static bool is_open(const struct server *server, int fd)
{
    return fd != server->listener &&
           (FD_ISSET(fd, &server->reading) || FD_ISSET(fd, &server->writing));
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

/* As in discard-server. */
static void welcome(struct server *server, bool new)
{
    struct address_name peer;
    int fd = accept_connection(server->listener, &peer);

    if (fd < 0 && errno == EAGAIN)
        return;
    if (fd < 0) {
        if (new)
            warn("accept: %s", strerror(errno));
        FD_CLR(server->listener, &server->reading);
        return;
    }
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

/* Ends one connection; error is why, or 0 if the client has finished. */
static void part(struct server *server, int fd, int error)
{
    struct connection *connection = &server->connections[fd];

    if (error != 0)
        warn("connection from %s: %s", connection->peer.text, strerror(error));
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

/* Ends the connections that have not moved a byte for too long. Returns how
 * long it is, in milliseconds, until the next may have to end, or -1. */
static long end_silent(struct server *server)
{
    long next = -1;

    for (int fd = 0; fd <= server->highest; fd++) {
        long long silence = server->now - server->connections[fd].progress;

        if (!is_open(server, fd))
            continue;
        if (silence > server->timeout_ms)
            part(server, fd, ETIMEDOUT);
        else if (next < 0 || server->timeout_ms + 1 - silence < next)
            next = (long)(server->timeout_ms + 1 - silence);
    }
    return next;
}

/* Waits until somebody is ready, and serves everybody who is. */
static void take_turn(struct server *server, const sigset_t *while_waiting)
{
    long ms = end_silent(server);
    fd_set readable = server->reading, writable = server->writing;
    bool rested = !FD_ISSET(server->listener, &readable);

    if (rested && (ms < 0 || ms > 100))
        ms = 100;

    const struct timespec longest = {ms / 1000, ms % 1000 * 1000000};
    int n = pselect(server->highest + 1, &readable, &writable, NULL,
                    ms < 0 ? NULL : &longest, while_waiting);

    server->now = now_ms();
    FD_SET(server->listener, &server->reading);
    if (n < 0 && errno == EINTR)
        return;
    if (n < 0)
        die("pselect: %s", strerror(errno));
    for (int fd = 0; fd <= server->highest; fd++)
        if (fd == server->listener)
            continue;
        else if (FD_ISSET(fd, &writable))
            answer(server, fd);
        else if (FD_ISSET(fd, &readable))
            hear(server, fd);
    if (rested || FD_ISSET(server->listener, &readable))
        welcome(server, !rested);
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
    sigset_t while_waiting;

    catch_signals(&while_waiting);
    parse_options(&options, argc, argv);
    server.timeout_ms = options.timeout_ms;
    server.now = now_ms();
    server.listener = start_listening(options.host, options.port);
    if (fcntl(server.listener, F_SETFL, O_NONBLOCK) < 0)
        die("fcntl: %s", strerror(errno));
    FD_SET(server.listener, &server.reading);
    server.highest = server.listener;
    while (!stopping)
        take_turn(&server, &while_waiting);
    return 0;
}

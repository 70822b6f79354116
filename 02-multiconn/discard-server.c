/*
 * discard-server: reads what clients send and throws it away (RFC 863), for
 * many clients at a time in one process: select() says who has something to
 * say. Read main() at the end first, then take_turn(), then, upwards, what it
 * calls.
 *
 * It promises no time-out: a silent client keeps its place.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "../common/net.h"     /* start_listening(), accept_connection() */
#include "../common/options.h" /* struct options, parse_options() */
#include "../common/report.h"  /* die(), warn(), narrate(), narrate_bytes() */

/* How many may come in a turn. Where many clients are served, a turn is long: a
 * queue should not have to wait for as many turns. */
enum { NEWCOMERS = 32 };

struct server {
    int listener;
    bool lacking;   /* accept() has failed for want of something */
    bool resting;   /* and the listener is left out of the next wait */
    fd_set reading; /* who is watched for bytes */
    int highest;    /* the highest descriptor in it so far */
    struct address_name peers[FD_SETSIZE]; /* by descriptor */
};

/* A call on this descriptor that would wait fails with EAGAIN instead. */
static bool prepare(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

static void watch(struct server *server, int fd)
{
    FD_SET(fd, &server->reading);
    if (fd > server->highest)
        server->highest = fd;
}

/* Receives a new client. FD_SET() of a descriptor that is too high would write
 * past the end of the set. */
static void greet(struct server *server, int fd, struct address_name peer)
{
    if (fd >= FD_SETSIZE || !prepare(fd)) {
        warn("connection from %s: descriptor %d: %s", peer.text, fd,
             fd >= FD_SETSIZE ? "too high for select()" : strerror(errno));
        close(fd);
        return;
    }
    server->peers[fd] = peer;
    narrate("Accepted connection from %s", peer.text);
    watch(server, fd);
}

/*
 * Takes clients from the queue, the first of which is there. If accept() lacks
 * something for it, such as a descriptor, the listener rests: it would be ready
 * at once, again and again. The lack is said once, when it is new. (Without a
 * descriptor accept() fails also when nobody waits: what it says to those after
 * the first does not count.)
 */
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

/* Receives once: a client that never stops gets its turn, and no more. */
static void hear(struct server *server, int fd)
{
    const char *peer = server->peers[fd].text;
    char buf[4096];
    ssize_t n = recv(fd, buf, sizeof buf, 0);

    if (n > 0) {
        narrate_bytes("Received", buf, (size_t)n, "from %s", peer);
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0)
        warn("connection from %s: %s", peer, strerror(errno));
    narrate("Closing connection to %s", peer);
    FD_CLR(fd, &server->reading);
    close(fd);
}

/* Waits until somebody is ready, and serves everybody who is. */
static void take_turn(struct server *server)
{
    struct timeval pause = {.tv_usec = 100000};
    fd_set ready = server->reading; /* a copy: select() writes into it */

    if (server->resting)
        FD_CLR(server->listener, &ready);
    if (select(server->highest + 1, &ready, NULL, NULL,
               server->resting ? &pause : NULL) < 0) {
        if (errno != EINTR)
            die("select: %s", strerror(errno));
        return; /* and ready means nothing */
    }
    server->resting = false;
    /* Newcomers last: nothing in ready is about them. */
    for (int fd = 0; fd <= server->highest; fd++)
        if (fd != server->listener && FD_ISSET(fd, &ready))
            hear(server, fd);
    if (FD_ISSET(server->listener, &ready))
        welcome(server);
}

/* As in stage 1. */
static void stop(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

int main(int argc, char **argv)
{
    static struct server server;
    struct options options = {
        .arguments = "[HOST [PORT]]",
        .purpose = "Reads what clients send, many at a time, and forgets it.",
        .most_arguments = 2,
        .listens = true,
        .no_timeout = true,
    };
    struct sigaction on_stop = {.sa_handler = stop};

    sigemptyset(&on_stop.sa_mask);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);
    parse_options(&options, argc, argv);

    server.listener = start_listening(options.host, options.port);
    if (server.listener >= FD_SETSIZE || !prepare(server.listener))
        die("listener: descriptor %d: %s", server.listener,
            server.listener >= FD_SETSIZE ? "too high for select()"
                                          : strerror(errno));
    watch(&server, server.listener);
    for (;;)
        take_turn(&server);
}

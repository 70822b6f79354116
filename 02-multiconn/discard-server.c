/*
 * discard-server: reads what clients send and throws it away (RFC 863), for
 * many clients at a time in one process: select() says who has something to
 * say. Read main() at the end first, then, upwards, what it calls.
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

struct server {
    int listener;
    int highest;                           /* the highest descriptor so far */
    fd_set reading;                        /* who is watched for bytes */
    struct address_name peers[FD_SETSIZE]; /* by descriptor */
};

static volatile sig_atomic_t stopping;

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

/*
 * From here on, SIGINT and SIGTERM are blocked: they are kept until pselect()
 * lets them through with *while_waiting, the mask without them. So none comes
 * between the look at stopping and the wait, where the server would go to
 * sleep on what it has just been told.
 */
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

/* A call on this descriptor that would wait fails with EAGAIN instead. */
static bool set_nonblocking(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

static void watch(struct server *server, int fd)
{
    FD_SET(fd, &server->reading);
    if (fd > server->highest)
        server->highest = fd;
}

/* Takes one client from the queue. If accept() lacks something, such as a
 * descriptor, the listener is left out of the next wait: it would be ready
 * at once, again and again. The lack is said once, when it is new. */
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
    /* FD_SET() of more would write past the end of the set. */
    if (fd >= FD_SETSIZE || !set_nonblocking(fd)) {
        warn("connection from %s: descriptor %d: %s", peer.text, fd,
             fd >= FD_SETSIZE ? "too high for select()" : strerror(errno));
        close(fd);
        return;
    }
    server->peers[fd] = peer;
    narrate("Accepted connection from %s", peer.text);
    watch(server, fd);
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
static void take_turn(struct server *server, const sigset_t *while_waiting)
{
    const struct timespec pause = {0, 100000000}; /* 100 ms */
    fd_set ready = server->reading; /* a copy, for pselect() writes into it */
    bool rested = !FD_ISSET(server->listener, &ready);
    int n = pselect(server->highest + 1, &ready, NULL, NULL,
                    rested ? &pause : NULL, while_waiting);

    FD_SET(server->listener, &server->reading);
    if (n < 0 && errno == EINTR)
        return; /* and ready means nothing */
    if (n < 0)
        die("pselect: %s", strerror(errno));
    /* The listener comes last: a number that hear() closes and welcome() uses
     * anew is not heard again for what the old connection had. */
    for (int fd = 0; fd <= server->highest; fd++)
        if (fd != server->listener && FD_ISSET(fd, &ready))
            hear(server, fd);
    if (rested || FD_ISSET(server->listener, &ready))
        welcome(server, !rested);
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
    sigset_t while_waiting;

    catch_signals(&while_waiting);
    parse_options(&options, argc, argv);
    server.listener = start_listening(options.host, options.port);
    if (!set_nonblocking(server.listener))
        die("fcntl: %s", strerror(errno));
    watch(&server, server.listener);
    while (!stopping)
        take_turn(&server, &while_waiting);
    return 0;
}

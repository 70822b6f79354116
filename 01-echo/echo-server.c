/*
 * echo-server: sends back what a client sends, one client after the other,
 * until SIGINT or SIGTERM. It is echo-once in a loop, ready for what the
 * kernel and a peer may do. Read main() at the end first, then serve(), the
 * idea; then, upwards, the helpers, each of which is one defence.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../common/net.h"     /* name_address() */
#include "../common/options.h" /* struct options, parse_options() */
#include "../common/report.h"  /* die(), warn(), narrate() */

static bool set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/* Returns a socket that listens on the first address of host that works. */
static int listen_on(const char *host, const char *port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE};
    struct addrinfo *list;
    struct address_name name = {""};
    int error = getaddrinfo(host, port, &hints, &list);
    int reason = 0;

    if (error != 0)
        die("resolve %s: %s", host, gai_strerror(error));
    for (struct addrinfo *at = list; at != NULL; at = at->ai_next) {
        int fd = socket(at->ai_family, at->ai_socktype, 0);

        /* With IPV6_V6ONLY off, "::" serves IPv4 as well; where a system does
         * not allow it, "::" is IPv6 alone. Without SO_REUSEADDR, a restart
         * fails while connections that the last run closed first are in
         * TIME_WAIT. */
        if (fd >= 0 && at->ai_family == AF_INET6)
            set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        if (fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
            set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
            bind(fd, at->ai_addr, at->ai_addrlen) == 0 &&
            listen(fd, SOMAXCONN) == 0) {
            freeaddrinfo(list);
            return fd;
        }
        reason = errno;
        name = name_address(at->ai_addr, at->ai_addrlen);
        if (fd >= 0)
            close(fd);
    }
    die("listen on %s: %s", name.text, strerror(reason));
}

/* Says where we listen: bind() made a real port of 0. Scripts wait for this
 * line, so it is written at once, and not turned off by -q. */
static void announce(int listener)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;

    if (getsockname(listener, (struct sockaddr *)&address, &len) < 0)
        die("getsockname: %s", strerror(errno));
    while (dprintf(STDOUT_FILENO, "Listening on %s\n",
                   name_address((struct sockaddr *)&address, len).text) < 0)
        if (errno != EINTR)
            die("standard output: %s", strerror(errno));
}

/*
 * Returns the next client's connection and its name in *peer. A client that
 * gave up while it waited is passed over where accept() says so, by
 * ECONNABORTED; on Linux recv() will say it. A lack, such as EMFILE, is said
 * once, and accept() is called again after a pause: it would fail at once,
 * again and again, and keep the processor busy.
 */
static int accept_next(int listener, struct address_name *peer)
{
    struct sockaddr_storage address;
    bool said = false;

    for (;;) {
        socklen_t len = sizeof address;
        int fd = accept(listener, (struct sockaddr *)&address, &len);

        if (fd >= 0) {
            *peer = name_address((struct sockaddr *)&address, len);
            return fd;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
            die("accept: %s", strerror(errno)); /* no pause would mend it */
        if (!said)
            warn("accept: %s", strerror(errno));
        said = true;
        poll(NULL, 0, 100);
    }
}

/*
 * Makes recv() and send() fail with EAGAIN after ms milliseconds without a
 * byte. A send() that waits is woken when a third of the queue is free: in a
 * small queue, a slow reader makes progress too. FD_CLOEXEC keeps the
 * connection from programs that a later version may start.
 */
static bool prepare(int fd, long ms)
{
    const struct timeval limit = {ms / 1000, ms % 1000 * 1000};

    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
           set_option(fd, SOL_SOCKET, SO_SNDBUF, 65536) &&
           setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0;
}

/* Sends all len bytes, however few the kernel takes at a time. Returns false
 * and errno if the connection fails. */
static bool send_all(int fd, const unsigned char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

/* Echoes until the client has finished. Returns false and errno if it failed
 * or fell silent: that is this client's end, and not ours. */
static bool serve(int client)
{
    unsigned char buf[4096];

    for (;;) {
        ssize_t received = recv(client, buf, sizeof buf, 0);

        if (received == 0)
            return true;
        if (received < 0 && errno == EINTR)
            continue;
        if (received < 0 || !send_all(client, buf, (size_t)received))
            return false;
    }
}

/* _exit() may be called in a signal handler, and at any moment: nothing that
 * it leaves behind waits to be flushed. */
static void stop(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

int main(int argc, char **argv)
{
    struct options options = {
        .arguments = "[HOST [PORT]]",
        .purpose = "Sends back what clients send, one client at a time.",
        .most_arguments = 2,
        .listens = true,
    };
    /* Not signal(): that may reset the handler as it runs, and then a second
     * signal would kill. */
    struct sigaction on_stop = {.sa_handler = stop};
    struct address_name peer;

    sigemptyset(&on_stop.sa_mask);
    signal(SIGPIPE, SIG_IGN); /* a send() to a peer that is gone: EPIPE */
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);
    parse_options(&options, argc, argv);

    int listener = listen_on(options.host, options.port);
    announce(listener);
    for (;;) {
        int client = accept_next(listener, &peer);

        narrate("Connected by %s", peer.text);
        if (!prepare(client, options.timeout_ms) || !serve(client))
            warn("connection from %s: %s", peer.text,
                 strerror(errno == EAGAIN ? ETIMEDOUT : errno));
        narrate("Closing connection to %s", peer.text);
        close(client);
    }
}

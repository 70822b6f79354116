/*
 * echo-client: sends a message, or all of standard input, to an echo server
 * and checks what comes back. Read main() at the end first, then send_message()
 * and copy_input(), which use exchange(), the idea; then, upwards, how a name
 * becomes a connection.
 *
 * An error ends it with exit status 1, and says how far it came.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../common/net.h"     /* name_address() */
#include "../common/options.h" /* struct options, parse_options() */
#include "../common/quote.h"   /* quote() */
#include "../common/report.h"  /* die(), narrate() */

/* Client and server each hold at most one step; a step larger than what the
 * socket buffers between them hold can stop both, each sending, neither
 * receiving (a deadlock). */
enum { STEP = 4096 };

struct conversation {
    int fd;
    struct address_name server;
    unsigned long long sent;     /* bytes that the kernel took from us */
    unsigned long long received; /* bytes that came back */
    unsigned long long wrong;    /* the first wrong one, from 1; 0: none */
};

/* How a time-out shows: connect() fails with EINPROGRESS, recv() and send()
 * with EAGAIN, whose own texts would mislead. */
static const char *reason(void)
{
    return strerror(errno == EAGAIN || errno == EINPROGRESS ? ETIMEDOUT
                                                            : errno);
}

static _Noreturn void fail(const struct conversation *talk, const char *what,
                           const char *why)
{
    die("%s %s: %s, got %llu of %llu bytes", what, talk->server.text, why,
        talk->received, talk->sent);
}

/* After a signal, connect() goes on in the kernel. To call it again is an
 * error in POSIX (EALREADY), though Linux would wait: wait for its end, and
 * ask SO_ERROR how it went. */
static int finish_connect(int fd, long ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int ready, error;
    socklen_t len = sizeof error;

    do
        ready = poll(&wait, 1, (int)ms);
    while (ready < 0 && errno == EINTR);
    if (ready == 0)
        errno = ETIMEDOUT;
    if (ready <= 0)
        return -1;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        return -1;
    errno = error;
    return error == 0 ? 0 : -1;
}

/* Returns a socket connected to one address, or -1 and errno. No call on it
 * waits longer than ms without progress. (Linux takes SO_SNDTIMEO for
 * connect(), too; other systems give up in their own time.) */
static int connect_to(const struct addrinfo *address, long ms)
{
    const struct timeval limit = {ms / 1000, ms % 1000 * 1000};
    int fd = socket(address->ai_family, address->ai_socktype, 0);

    if (fd < 0)
        return -1;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
        (connect(fd, address->ai_addr, address->ai_addrlen) == 0 ||
         (errno == EINTR && finish_connect(fd, ms) == 0)))
        return fd;

    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* A name can have several addresses, and a server may listen on any of them:
 * tries each, and dies with the last error if none answers. */
static struct conversation connect_any(const struct options *options)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct conversation talk = {.fd = -1};
    struct addrinfo *list;
    int error = getaddrinfo(options->host, options->port, &hints, &list);

    if (error != 0)
        die("resolve %s: %s", options->host, gai_strerror(error));
    for (struct addrinfo *at = list; at != NULL && talk.fd < 0;
         at = at->ai_next) {
        talk.server = name_address(at->ai_addr, at->ai_addrlen);
        talk.fd = connect_to(at, options->timeout_ms);
    }
    if (talk.fd < 0)
        die("connect to %s: %s", talk.server.text, reason());
    freeaddrinfo(list);
    return talk;
}

/* Sends all len bytes, however few the kernel takes at a time. */
static void send_all(struct conversation *talk, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(talk->fd, bytes, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail(talk, "send to", reason());
        bytes += n;
        len -= (size_t)n;
        talk->sent += (unsigned long long)n;
    }
}

/* Returns up to size bytes that came back, or 0 at the end of the stream. */
static size_t receive(struct conversation *talk, char *bytes, size_t size)
{
    ssize_t n;

    do
        n = recv(talk->fd, bytes, size, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        fail(talk, "receive from", reason());
    talk->received += (unsigned long long)n;
    return (size_t)n;
}

/* Sends len bytes and receives as many into echo, in as many pieces as the
 * kernel makes of them: one send() is not one recv(). */
static void exchange(struct conversation *talk, const char *bytes, char *echo,
                     size_t len)
{
    size_t received = 0;

    send_all(talk, bytes, len);
    while (received < len) {
        size_t n = receive(talk, echo + received, len - received);

        if (n == 0)
            fail(talk, "receive from", "connection closed early");
        received += n;
    }
    for (size_t i = 0; i < len && talk->wrong == 0; i++)
        if (echo[i] != bytes[i])
            talk->wrong = talk->received - len + i + 1;
}

/* Says that we have finished (the server's recv() returns 0), expects the
 * same of the server, and judges what came back. */
static void finish(struct conversation *talk)
{
    char extra;

    /* ENOTCONN: a reset came first, and receive() will say so. */
    if (shutdown(talk->fd, SHUT_WR) < 0 && errno != ENOTCONN)
        fail(talk, "shutdown of", strerror(errno));
    if (receive(talk, &extra, 1) > 0)
        fail(talk, "receive from", "more than was sent");
    if (talk->wrong != 0)
        die("receive from %s: byte %llu is not the one that was sent",
            talk->server.text, talk->wrong);
    close(talk->fd);
}

static void send_message(struct conversation *talk, const char *message)
{
    size_t len = strlen(message); /* an argument is a string; bytes are not */
    char *echo = malloc(len + 1); /* malloc(0) may return NULL */

    if (echo == NULL)
        die("message: %s", strerror(errno));
    for (size_t at = 0, step; at < len; at += step) {
        step = len - at < STEP ? len - at : STEP;
        exchange(talk, message + at, echo + at, step);
    }
    narrate("Received %s", quote(echo, len).text);
    free(echo);
}

/* write() on a pipe may take fewer bytes than offered, as send() may. */
static void print_all(const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("standard output: %s", strerror(errno));
        bytes += n;
        len -= (size_t)n;
    }
}

/* Copies standard input to the server, and what comes back to standard
 * output, a step at a time: any size in constant memory. */
static void copy_input(struct conversation *talk)
{
    char bytes[STEP], echo[STEP];

    for (;;) {
        ssize_t len = read(STDIN_FILENO, bytes, sizeof bytes);

        if (len == 0)
            return;
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            die("standard input: %s", strerror(errno));
        exchange(talk, bytes, echo, (size_t)len);
        print_all(echo, (size_t)len);
    }
}

int main(int argc, char **argv)
{
    struct options options = {
        .arguments = "[HOST [PORT [MESSAGE]]]",
        .purpose = "Sends MESSAGE (Hello, world) and shows what comes back.\n"
                   "With - as MESSAGE, copies standard input to the server "
                   "and the echo to\nstandard output.",
        .most_arguments = 3,
    };
    const char *message = "Hello, world";

    signal(SIGPIPE, SIG_IGN); /* a send() to a peer that is gone: EPIPE */
    parse_options(&options, argc, argv);
    if (options.rest[0] != NULL)
        message = options.rest[0];

    struct conversation talk = connect_any(&options);
    if (strcmp(message, "-") == 0)
        copy_input(&talk);
    else
        send_message(&talk, message);
    finish(&talk);
    return EXIT_SUCCESS;
}

/*
 * tls-echo-client: echo-client over TLS, and no further: calls that wait.
 * Compare it with 01-echo/echo-client.c: "diff -u" of the two is the lesson.
 * Read main() at the end first, then, upwards, what it calls.
 *
 * What it does not promise: -t bounds each wait for a byte, so a server that
 * dribbles holds it for as long as it likes.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../03-app-protocol/client.h" /* connect_any() */
#include "../common/deadline.h"        /* now_ms() */
#include "../common/net.h"             /* resolve() */
#include "../common/options.h"         /* struct options */
#include "../common/quote.h"           /* quote() */
#include "../common/report.h"          /* die(), narrate() */
#include "tls_options.h"               /* tls_parse_client() */
#include "tls_peer.h"                  /* tls_expect(), tls_reason() … */

/* As in stage 1: a larger step could stop both sides for ever. */
enum { STEP = 4096 };

struct conversation {
    int fd;
    SSL *ssl;
    struct tls_error flaw; /* of the server's certificate */
    struct address_name server;
    unsigned long long sent;     /* bytes that OpenSSL took from us */
    unsigned long long received; /* bytes that came back */
    unsigned long long wrong;    /* the first wrong one, from 1; 0: none */
};

static _Noreturn void fail(const struct conversation *talk, const char *what,
                           const char *why)
{
    die("%s %s: %s, got %llu of %llu bytes", what, talk->server.text, why,
        talk->received, talk->sent);
}

/* Says why a call on the connection failed. */
static _Noreturn void fail_tls(const struct conversation *talk,
                               const char *what, int result)
{
    char why[256];

    fail(talk, what, tls_reason(talk->ssl, result, why, sizeof why));
}

/* Connects by stage 3's function, and makes calls on the socket wait again,
 * but no longer than the time-out. */
static void connect_tcp(struct conversation *talk,
                        const struct options *options)
{
    const long ms = options->timeout_ms;
    const struct timeval limit = {ms / 1000, ms % 1000 * 1000};
    struct addrinfo *list = resolve(options->host, options->port, 0);

    talk->fd = connect_any(list, now_ms() + ms + 1, &talk->server);
    if (talk->fd < 0 || fcntl(talk->fd, F_SETFL, 0) < 0 ||
        setsockopt(talk->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) ||
        setsockopt(talk->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit))
        die("connect to %s: %s", talk->server.text, strerror(errno));
    freeaddrinfo(list);
}

/* Before a byte is sent that others should not read, the server must have shown
 * that it is who we want. */
static void connect_tls(struct conversation *talk, SSL_CTX *context,
                        const char *name)
{
    char why[256];
    int result;

    talk->ssl = SSL_new(context);
    if (talk->ssl == NULL || SSL_set_fd(talk->ssl, talk->fd) != 1 ||
        !tls_expect(talk->ssl, name))
        die("TLS: %s", strerror(ENOMEM));
    tls_note_flaws(talk->ssl, &talk->flaw);
    do {
        tls_begin();
        result = SSL_connect(talk->ssl);
    } while (result <= 0 && tls_again(talk->ssl, result));
    if (result != 1)
        die("handshake with %s: %s", talk->server.text,
            tls_reason(talk->ssl, result, why, sizeof why));
}

/* Returns up to size bytes that came back, or 0 when the server has said that
 * it has finished. An end without that is an error: somebody may have cut the
 * connection, and here no length says whether all has come. */
static size_t receive(struct conversation *talk, char *bytes, size_t size)
{
    size_t count = 0;
    int result;

    do {
        tls_begin();
        result = SSL_read_ex(talk->ssl, bytes, size, &count);
    } while (result != 1 && tls_again(talk->ssl, result));
    if (result != 1 &&
        SSL_get_error(talk->ssl, result) != SSL_ERROR_ZERO_RETURN)
        fail_tls(talk, "receive from", result);
    talk->received += count;
    return count;
}

/* The server may have said by an alert why it takes no more: in TLS 1.3 the
 * client's handshake ends before the server has seen the client's certificate.
 * Where the socket has failed, what has come can still be read. */
static _Noreturn void fail_to_send(struct conversation *talk, int result)
{
    char bytes[STEP], why[256];
    bool socket_failed = SSL_get_error(talk->ssl, result) == SSL_ERROR_SYSCALL;

    tls_reason(talk->ssl, result, why, sizeof why);
    while (socket_failed && receive(talk, bytes, sizeof bytes) > 0)
        ;
    fail(talk, "send to", why);
}

/* Sends all len bytes, however few OpenSSL takes at a time. */
static void send_all(struct conversation *talk, const char *bytes, size_t len)
{
    while (len > 0) {
        size_t sent = 0;
        int result;

        tls_begin();
        result = SSL_write_ex(talk->ssl, bytes, len, &sent);
        if (result != 1 && !tls_again(talk->ssl, result))
            fail_to_send(talk, result);
        bytes += sent;
        len -= sent;
        talk->sent += sent;
    }
}

/* Sends len bytes and receives as many into echo, in as many pieces as
 * they come: one SSL_write() is not one SSL_read(). */
static void exchange(struct conversation *talk, const char *bytes, char *echo,
                     size_t len)
{
    size_t received = 0;

    send_all(talk, bytes, len);
    while (received < len) {
        size_t n = receive(talk, echo + received, len - received);

        if (n == 0)
            fail(talk, "receive from", "ended early");
        received += n;
    }
    for (size_t i = 0; i < len && talk->wrong == 0; i++)
        if (echo[i] != bytes[i])
            talk->wrong = talk->received - len + i + 1;
}

/* Says that we have finished (close_notify), expects the same of the server,
 * and judges what came back. Once it is sent, SSL_shutdown() is not called
 * again: that would wait for the server's, and fail if data comes first. */
static void finish(struct conversation *talk)
{
    char extra;
    int result;

    do {
        tls_begin();
        result = SSL_shutdown(talk->ssl);
    } while (result < 0 && tls_again(talk->ssl, result));
    /* Where the socket has failed: the server has ended already, or receive()
     * will say why it did. */
    if (result < 0 && SSL_get_error(talk->ssl, result) != SSL_ERROR_SYSCALL)
        fail_tls(talk, "shutdown of", result);
    if (receive(talk, &extra, 1) > 0)
        fail(talk, "receive from", "more than was sent");
    if (talk->wrong != 0)
        die("receive from %s: byte %llu is not the one that was sent",
            talk->server.text, talk->wrong);
    SSL_free(talk->ssl);
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
        .purpose = "Sends MESSAGE (Hello, world) over TLS and shows what comes "
                   "back.\nWith - as MESSAGE, copies standard input to the "
                   "server and the echo to\nstandard output.",
        .most_arguments = 3,
    };
    struct tls_client_options tls;
    struct conversation talk = {.fd = -1};
    const char *message = "Hello, world";
    SSL_CTX *context;

    signal(SIGPIPE, SIG_IGN); /* OpenSSL's write to a peer that is gone */
    context = tls_parse_client(&tls, &options, NULL, argc, argv);
    if (options.rest[0] != NULL)
        message = options.rest[0];

    connect_tcp(&talk, &options);
    connect_tls(&talk, context, tls.name);
    if (strcmp(message, "-") == 0)
        copy_input(&talk);
    else
        send_message(&talk, message);
    finish(&talk);
    SSL_CTX_free(context);
    return EXIT_SUCCESS;
}

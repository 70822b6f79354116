/*
 * tls-echo-server: echo-server over TLS, and no further: one client after the
 * other, calls that wait. Compare it with 01-echo/echo-server.c: "diff -u" of
 * the two is the lesson. Read main() first, then serve().
 *
 * What it does not promise: -t bounds each wait for a byte, so a client that
 * sends its handshake a byte at a time holds it for as long as it likes.
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../common/net.h"     /* start_listening(), accept_connection() … */
#include "../common/options.h" /* struct options, parse_options() */
#include "../common/report.h"  /* die(), warn(), narrate() */
#include "tls.h"               /* tls_server_context() */
#include "tls_options.h"       /* tls_server_options() */
#include "tls_peer.h"          /* tls_begin(), tls_again(), tls_reason() … */

/* Returns the next client's connection. A lack is said once, and waited for. */
static int accept_next(int listener, struct address_name *peer)
{
    bool said = false;
    int fd;

    while ((fd = accept_connection(listener, peer)) < 0) {
        if (errno == EAGAIN)
            continue; /* it has gone; this listener waits for the next */
        if (!said)
            warn("accept: %s", strerror(errno));
        said = true;
        poll(NULL, 0, 100);
    }
    return fd;
}

/* Makes each wait for a byte end after ms milliseconds. */
static bool prepare(int fd, long ms)
{
    const struct timeval limit = {ms / 1000, ms % 1000 * 1000};

    return set_socket_option(fd, SOL_SOCKET, SO_SNDBUF, 65536) &&
           setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0;
}

/* Says why a call on the connection failed: that is this client's end. */
static bool fail(SSL *ssl, int result, const struct address_name *peer)
{
    char why[256];

    warn("connection from %s: %s", peer->text,
         tls_reason(ssl, result, why, sizeof why));
    return false;
}

static bool shake_hands(SSL *ssl, const struct address_name *peer)
{
    int result;

    do {
        tls_begin();
        result = SSL_accept(ssl);
    } while (result <= 0 && tls_again(ssl, result));
    return result == 1 || fail(ssl, result, peer);
}

/* Sends all len bytes, however few OpenSSL takes at a time. */
static bool send_all(SSL *ssl, const unsigned char *bytes, size_t len,
                     const struct address_name *peer)
{
    while (len > 0) {
        size_t sent = 0;
        int result;

        tls_begin();
        result = SSL_write_ex(ssl, bytes, len, &sent);
        if (result != 1 && !tls_again(ssl, result))
            return fail(ssl, result, peer);
        bytes += sent;
        len -= sent;
    }
    return true;
}

/* Sends close_notify. The client may be gone, and that is as good. */
static void say_end(SSL *ssl)
{
    int result;

    do {
        tls_begin();
        result = SSL_shutdown(ssl);
    } while (result < 0 && tls_again(ssl, result));
}

/* Echoes until the client says that it has finished, by close_notify, and says
 * the same. Returns false, and has said why, if it failed or fell silent. */
static bool serve(SSL *ssl, const struct address_name *peer)
{
    unsigned char buf[4096];

    if (!shake_hands(ssl, peer))
        return false;
    for (;;) {
        size_t received;
        int result;

        tls_begin();
        result = SSL_read_ex(ssl, buf, sizeof buf, &received);
        if (result == 1) {
            if (!send_all(ssl, buf, received, peer))
                return false;
        } else if (SSL_get_error(ssl, result) == SSL_ERROR_ZERO_RETURN) {
            say_end(ssl);
            return true;
        } else if (!tls_again(ssl, result)) {
            return fail(ssl, result, peer);
        }
    }
}

/* OpenSSL may have told the client why (an alert). Were the socket closed with
 * bytes unread, a reset would destroy it: so what comes is read, for a while.
 */
static void linger(int fd)
{
    enum { MOST_RECEIVES = 64, PAUSE_MS = 500 };
    unsigned char buf[16384];

    shutdown(fd, SHUT_WR);
    if (prepare(fd, PAUSE_MS))
        for (int i = 0; i < MOST_RECEIVES; i++)
            if (recv(fd, buf, sizeof buf, 0) <= 0)
                return;
}

/* One client, from its handshake to its end. */
static void welcome(SSL_CTX *context, int fd, const struct address_name *peer)
{
    SSL *ssl = SSL_new(context);
    struct tls_error flaw = {""};

    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        warn("connection from %s: %s", peer->text, strerror(ENOMEM));
    } else {
        tls_note_flaws(ssl, &flaw);
        if (!serve(ssl, peer))
            linger(fd);
    }
    SSL_free(ssl);
}

/* See stage 1. */
static void stop(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

int main(int argc, char **argv)
{
    struct program_option own[4];
    struct options options = {
        .arguments = "[HOST [PORT]]",
        .purpose = "Sends back what clients send, one client at a time, over "
                   "TLS.",
        .most_arguments = 2,
        .listens = true,
        .own = own,
    };
    struct tls_files files = {NULL, NULL, NULL};
    struct tls_error error = {""};
    struct sigaction on_stop = {.sa_handler = stop};
    struct address_name peer;

    sigemptyset(&on_stop.sa_mask);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL's write to a peer that is gone */
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);
    tls_server_options(own, &files);
    parse_options(&options, argc, argv);

    SSL_CTX *context = tls_server_context(&files, NULL, &error);
    if (context == NULL)
        die("%s", error.text);
    int listener = start_listening(options.host, options.port);
    for (;;) {
        int client = accept_next(listener, &peer);

        narrate("Connected by %s", peer.text);
        if (prepare(client, options.timeout_ms))
            welcome(context, client, &peer);
        else
            warn("connection from %s: %s", peer.text, strerror(errno));
        narrate("Closing connection to %s", peer.text);
        close(client);
    }
}

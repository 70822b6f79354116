/*
 * bare-tls: bare-epoll over TLS, what "make bench-4" compares the servers with,
 * and no model for one. A loop around epoll and OpenSSL that sends back what it
 * receives, or, given a file, the bytes of this. It does nothing else: it looks
 * at no byte, has no deadline, says nothing, frees nothing that is idle, and
 * does not ask what went wrong.
 *
 * What the peer sees is the same as of tls-app-server: the groups, tickets and
 * no table of sessions, the size of a read, and so, for a message, one read and
 * one write. As an echo, its sockets block, as in bare-epoll.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../../common/net.h" /* start_listening(), set_socket_option() … */
#include "../../common/options.h" /* struct options, parse_options() */
#include "../../common/report.h"  /* die() */
#include "file.h"                 /* struct file, read_file() */

enum { MOST_COUNTED = 1024 };

struct loop {
    int listener, epoll;
    SSL_CTX *context;
    struct file reply; /* empty: it is an echo */
    long after;        /* so many bytes a reply is sent; 0: each read */
    long received[MOST_COUNTED]; /* of each descriptor, since its last reply */
};

static SSL_CTX *make_context(const char *cert, const char *key)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    char groups[] = "X25519:P-256:P-384"; /* the macro takes no const */

    if (context == NULL ||
        SSL_CTX_use_certificate_chain_file(context, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set1_groups_list(context, groups) != 1)
        die("TLS: %s", ERR_reason_error_string(ERR_peek_error()));
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return context;
}

/* The listener has no ssl. */
static void watch(const struct loop *loop, int fd, SSL *ssl)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = ssl};

    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* As tls-echo-server does, or as tls-app-server. */
static bool prepare(const struct loop *loop, int fd)
{
    if (loop->reply.len == 0)
        return set_socket_option(fd, SOL_SOCKET, SO_SNDBUF, 65536);
    return set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
           fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

static void welcome(const struct loop *loop)
{
    int fd = accept(loop->listener, NULL, NULL);
    SSL *ssl = SSL_new(loop->context);

    if (fd < 0 || !prepare(loop, fd) || SSL_set_fd(ssl, fd) != 1)
        die("accept: %s", strerror(errno));
    SSL_set_accept_state(ssl);
    watch(loop, fd, ssl);
}

static void part(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);

    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    ERR_clear_error();
}

/* Is a reply due, when so many bytes more have come? With --after there are a
 * few connections, and descriptors are given from 0 on. */
static bool is_due(struct loop *loop, int fd, int received)
{
    long *count = &loop->received[fd % MOST_COUNTED];

    *count += received;
    if (*count < loop->after)
        return false;
    *count = 0;
    return true;
}

/* SSL_read() makes the handshake, too. A record fits into buf, so that nothing
 * is left where epoll does not see it. */
static void serve(struct loop *loop, SSL *ssl)
{
    unsigned char buf[16384];
    const struct file *reply = &loop->reply;
    int received = SSL_read(ssl, buf, sizeof buf);
    int len = reply->len > 0 ? (int)reply->len : received;

    if (received <= 0) {
        if (SSL_get_error(ssl, received) != SSL_ERROR_WANT_READ)
            part(ssl);
        return;
    }
    if (loop->after > 0 && !is_due(loop, SSL_get_fd(ssl), received))
        return;
    if (SSL_write(ssl, reply->len > 0 ? reply->bytes : buf, len) != len)
        part(ssl);
}

int main(int argc, char **argv)
{
    enum { AT_ONCE = 256 };
    static struct loop loop;
    struct epoll_event list[AT_ONCE];
    const char *cert = NULL, *key = NULL;
    long after = 0;
    const struct program_option own[] = {
        {.name = "cert",
         .value = "FILE",
         .purpose = "its certificate",
         .choice = &cert,
         .needed = true},
        {.name = "key",
         .value = "FILE",
         .purpose = "the private key",
         .choice = &key,
         .needed = true},
        {.name = "after",
         .value = "BYTES",
         .number = &after,
         .purpose = "a reply to so many bytes (0: to each read)",
         .highest = 1L << 30},
        {.name = NULL},
    };
    struct options options = {
        .arguments = "[HOST [PORT [REPLY]]]",
        .purpose = "Sends back what clients send, as fast as epoll and OpenSSL "
                   "can, or the bytes\nof the file REPLY.",
        .most_arguments = 3,
        .listens = true,
        .no_timeout = true,
        .own = own,
    };

    signal(SIGPIPE, SIG_IGN);
    parse_options(&options, argc, argv);
    if (options.rest[0] != NULL)
        loop.reply = read_file(options.rest[0]);
    loop.after = after;
    loop.context = make_context(cert, key);
    raise_descriptor_limit();
    loop.listener = start_listening(options.host, options.port);
    loop.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop.epoll < 0)
        die("epoll_create1: %s", strerror(errno));
    watch(&loop, loop.listener, NULL);
    for (;;) {
        int count = epoll_wait(loop.epoll, list, AT_ONCE, -1);

        for (int i = 0; i < count; i++)
            if (list[i].data.ptr == NULL)
                welcome(&loop);
            else
                serve(&loop, list[i].data.ptr);
    }
}

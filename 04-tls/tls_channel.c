/*
 * tls_channel: see tls_channel.h. The lesson is one table, who wants what:
 *
 *     OpenSSL says              the channel says
 *     done                      IO_OK, and how many bytes
 *     SSL_ERROR_WANT_READ       IO_WANT_READ, whatever was called
 *     SSL_ERROR_WANT_WRITE      IO_WANT_WRITE, whatever was called
 *     SSL_ERROR_ZERO_RETURN     IO_END: the peer's close_notify has come
 *     an end without it         IO_END, and channel->error says so
 *     anything else             IO_ERROR
 *
 * Its rows are outcome(). Read that first, then the calls of the channel, in
 * the order of a conversation: open, read, pending, write, close_write, free.
 */
#include "tls_channel.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls_peer.h" /* tls_expect(), tls_reason() … */

enum { MOST_READS = 64 };

struct tls_channel {
    struct channel channel; /* first: a pointer to it is one to all of this */
    SSL *ssl;
    struct tls_client *client; /* NULL: we are the server */
    struct tls_error flaw;     /* of the peer's certificate */
    enum {
        WORKS,
        WRITES_FAIL, /* what the peer has sent may still be read */
        BROKEN       /* OpenSSL must not be asked again */
    } state;
    bool said_end; /* our close_notify is on its way */
    int reads;     /* of the socket, that this turn of the handshake may make */
};

static struct tls_channel *tls_of(struct channel *channel)
{
    return (struct tls_channel *)channel;
}

/*
 * OpenSSL asks this before each read of the socket in a handshake. One call of
 * it reads until a message is complete, and a peer may cut that into 130,000
 * records of a byte, while all others wait. So after some reads the socket is
 * said to be empty: since it is not, the next turn comes at once.
 */
static long limit_reads(BIO *bio, int operation, const char *bytes, size_t len,
                        int argi, long argl, int result, size_t *count)
{
    struct tls_channel *tls = (void *)BIO_get_callback_arg(bio);

    (void)bytes, (void)len, (void)argi, (void)argl, (void)count;
    if (operation != BIO_CB_READ)
        return result;
    BIO_clear_retry_flags(bio);
    if (tls->reads == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    tls->reads--;
    return result;
}

/* Says what a call means that has not done what it was to do, and notes why.
 * To be called right after it: errno and the queue of errors are of the last
 * call. So is what was in the queue before a call: each begins by clearing it.
 */
static enum io_status outcome(struct tls_channel *tls, int result)
{
    char *error = tls->channel.error;
    int why = SSL_get_error(tls->ssl, result);
    bool cut = tls_was_cut(tls->ssl, result);

    if (why == SSL_ERROR_WANT_READ)
        return IO_WANT_READ;
    if (why == SSL_ERROR_WANT_WRITE)
        return IO_WANT_WRITE;
    if (why == SSL_ERROR_ZERO_RETURN) {
        error[0] = '\0'; /* whatever became of our writes */
        return IO_END;
    }
    /* The kernel tells of a reset once: a read after it finds an end. */
    if (!cut || tls->state != WRITES_FAIL)
        tls_reason(tls->ssl, result, error, sizeof tls->channel.error);
    tls->state = BROKEN;
    return cut ? IO_END : IO_ERROR;
}

/* --- Opening -------------------------------------------------------------- */

/* A server that was offered our protocol, and chose, must have chosen it. One
 * that has not chosen may not know ALPN. */
static bool protocol_agreed(struct tls_channel *tls)
{
    const char *alpn = tls->client != NULL ? tls->client->alpn : NULL;
    const unsigned char *chosen;
    unsigned len;

    SSL_get0_alpn_selected(tls->ssl, &chosen, &len);
    if (alpn == NULL || len == 0 ||
        (len == strlen(alpn) && memcmp(chosen, alpn, len) == 0))
        return true;
    snprintf(tls->channel.error, sizeof tls->channel.error,
             "it chose a protocol that was not offered");
    tls->state = BROKEN;
    return false;
}

/* The handshake is a conversation: it reads and writes, as it must. */
static enum io_status open_tls(struct channel *channel)
{
    struct tls_channel *tls = tls_of(channel);
    enum io_status status;
    int result;

    ERR_clear_error();
    tls->reads = MOST_READS;
    result = SSL_do_handshake(tls->ssl);
    if (result == 1) {
        BIO_set_callback_ex(SSL_get_rbio(tls->ssl), NULL);
        return protocol_agreed(tls) ? IO_OK : IO_ERROR;
    }
    status = outcome(tls, result);
    if (status == IO_END) {
        snprintf(channel->error, sizeof channel->error,
                 "the peer ended it before it was complete");
        tls->state = BROKEN;
    }
    return status;
}

/* --- Reading -------------------------------------------------------------- */

/* For a lingering close: what comes can no longer be deciphered, but must be
 * taken, or else the kernel would destroy the alert that says why. */
static struct io take_in_vain(struct channel *channel, void *bytes, size_t size)
{
    ssize_t n = recv(channel->fd, bytes, size, 0);

    if (n > 0)
        return (struct io){IO_WANT_READ, (size_t)n};
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return (struct io){IO_WANT_READ, 0};
    return (struct io){n == 0 ? IO_END : IO_ERROR, 0};
}

static struct io read_tls(struct channel *channel, void *bytes, size_t size)
{
    struct tls_channel *tls = tls_of(channel);
    size_t count;
    int result;

    if (tls->state == BROKEN)
        return take_in_vain(channel, bytes, size);
    ERR_clear_error();
    result = SSL_read_ex(tls->ssl, bytes, size, &count);
    if (result == 1)
        return (struct io){IO_OK, count};
    return (struct io){outcome(tls, result), 0};
}

/* A record holds up to 16 KiB and is deciphered as a whole. What of it was not
 * asked for yet is in OpenSSL's memory and no longer in the kernel's, and so
 * the descriptor is not readable because of it. Not SSL_has_pending(), which
 * also counts what is no data and may never be any. */
static bool pending_tls(const struct channel *channel)
{
    const struct tls_channel *tls = (const struct tls_channel *)channel;

    return tls->state != BROKEN && SSL_pending(tls->ssl) > 0;
}

/* --- Writing -------------------------------------------------------------- */

/* A write that waits has encrypted its bytes already: the next must offer the
 * same ones, as every user of a channel does who consumes what was taken and
 * no more. Where the socket has failed, there may be an alert to be read, which
 * says why; where TLS has, there is nothing. And where the socket has failed
 * after the peer's close_notify, OpenSSL says ZERO_RETURN: of a write, that is
 * no end but the same failure. */
static struct io write_tls(struct channel *channel, const void *bytes,
                           size_t len)
{
    struct tls_channel *tls = tls_of(channel);
    size_t count;
    int result, why;

    if (tls->state != WORKS)
        return (struct io){IO_ERROR, 0};
    ERR_clear_error();
    result = SSL_write_ex(tls->ssl, bytes, len, &count);
    if (result == 1)
        return (struct io){IO_OK, count};
    why = SSL_get_error(tls->ssl, result);
    if (why != SSL_ERROR_SYSCALL && why != SSL_ERROR_ZERO_RETURN)
        return (struct io){outcome(tls, result), 0};
    tls_reason(tls->ssl, result, channel->error, sizeof channel->error);
    tls->state = WRITES_FAIL;
    return (struct io){IO_ERROR, 0};
}

/* --- The end -------------------------------------------------------------- */

/* Sends close_notify. SSL_shutdown() returns 0 when it is sent; a further call
 * would wait for the peer's, and break off at data that comes before. That is
 * for read to take. If it cannot be sent, read will say why. */
static enum io_status say_end(struct tls_channel *tls)
{
    int result;

    ERR_clear_error();
    result = SSL_shutdown(tls->ssl);
    if (result >= 0)
        return IO_OK;
    if (SSL_get_error(tls->ssl, result) == SSL_ERROR_WANT_WRITE)
        return IO_WANT_WRITE;
    tls_reason(tls->ssl, result, tls->channel.error, sizeof tls->channel.error);
    tls->state = WRITES_FAIL;
    return IO_OK;
}

static enum io_status close_write_tls(struct channel *channel)
{
    struct tls_channel *tls = tls_of(channel);

    if (!tls->said_end && tls->state == WORKS) {
        enum io_status status = say_end(tls);

        if (status != IO_OK)
            return status;
    }
    if (!tls->said_end)
        shutdown(channel->fd, SHUT_WR); /* ENOTCONN: read will say why */
    tls->said_end = true;
    return IO_OK;
}

/* The server sends what a session is resumed with after the handshake, so it is
 * looked for at the end. In TLS 1.3 each is used once. */
static void keep_session(struct tls_channel *tls)
{
    SSL_SESSION *session = SSL_get1_session(tls->ssl);

    if (session != NULL && SSL_SESSION_is_resumable(session)) {
        SSL_SESSION_free(tls->client->session);
        tls->client->session = session;
    } else {
        SSL_SESSION_free(session);
    }
}

/* Who has not said that it ends, since it had waited too long, or the peer was
 * first, says so now, if that can be sent at once: the peer can tell it from a
 * cut, and OpenSSL does not resume a session without. */
static void free_tls(struct channel *channel)
{
    struct tls_channel *tls = tls_of(channel);

    if (tls->state == WORKS && SSL_is_init_finished(tls->ssl)) {
        if (!tls->said_end)
            say_end(tls);
        if (tls->client != NULL)
            keep_session(tls);
    }
    SSL_free(tls->ssl);
    close(channel->fd);
    free(tls);
}

/* --- Making one ----------------------------------------------------------- */

static struct channel *make_tls(int fd, SSL_CTX *context,
                                struct tls_client *client)
{
    static const struct channel_calls calls = {
        .open = open_tls,
        .read = read_tls,
        .write = write_tls,
        .close_write = close_write_tls,
        .pending = pending_tls,
        .free = free_tls,
    };
    struct tls_channel *tls = calloc(1, sizeof *tls);
    SSL *ssl = tls != NULL ? SSL_new(context) : NULL;

    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 ||
        (client != NULL && !tls_expect(ssl, client->name))) {
        SSL_free(ssl);
        free(tls);
        close(fd);
        return NULL;
    }
    tls->channel.calls = &calls;
    tls->channel.fd = fd;
    tls->ssl = ssl;
    tls->client = client;
    tls_note_flaws(ssl, &tls->flaw);
    BIO_set_callback_ex(SSL_get_rbio(ssl), limit_reads);
    BIO_set_callback_arg(SSL_get_rbio(ssl), (char *)tls);
    return &tls->channel;
}

struct channel *tls_make_accepting(int fd, void *context)
{
    struct channel *channel = make_tls(fd, *(SSL_CTX **)context, NULL);

    if (channel != NULL)
        SSL_set_accept_state(tls_of(channel)->ssl);
    return channel;
}

struct channel *tls_make_connecting(int fd, void *context)
{
    struct tls_client *client = context;
    struct channel *channel = make_tls(fd, client->context, client);

    if (channel == NULL)
        return NULL;
    SSL_set_connect_state(tls_of(channel)->ssl);
    if (client->session != NULL)
        SSL_set_session(tls_of(channel)->ssl, client->session);
    SSL_SESSION_free(client->session);
    client->session = NULL;
    return channel;
}

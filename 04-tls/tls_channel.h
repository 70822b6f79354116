/*
 * tls_channel: the channel of stage 3 over TLS. Each of its calls is a call of
 * OpenSSL on a socket that does not block, and asks to wait for what OpenSSL
 * waits for, which need not be what the call is named after.
 */
#ifndef TLS_CHANNEL_H
#define TLS_CHANNEL_H

#include <openssl/ssl.h>

#include "../03-app-protocol/channel.h" /* struct channel */

/* Makes channels for a server: the make of a struct channel_maker, with a
 * pointer to an SSL_CTX * as its context. The SSL_CTX may be exchanged at any
 * time; the channels that there are keep theirs. */
struct channel *tls_make_accepting(int fd, void *context);

/* What the channels of a client have in common. */
struct tls_client {
    SSL_CTX *context;
    const char *name;     /* that the server's certificate must be for */
    const char *alpn;     /* as in the context, or NULL */
    SSL_SESSION *session; /* of the last connection, for the next to resume;
                           * NULL, or for SSL_SESSION_free() */
};

/* Makes channels for a client, with a pointer to its struct tls_client as the
 * context. */
struct channel *tls_make_connecting(int fd, void *context);

#endif

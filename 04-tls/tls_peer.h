/*
 * tls_peer: the other side of one connection: whom it must be, and what went
 * wrong with it, in words.
 */
#ifndef TLS_PEER_H
#define TLS_PEER_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

/* What went wrong, in words, as a value. "" is nothing. */
struct tls_error {
    char text[512];
};

/* Can a certificate be for this name, or this address? */
bool tls_is_name(const char *name);

/*
 * For a client, before the handshake: the server's certificate must be for
 * this name, or this address, and the server is told which name is meant (SNI,
 * RFC 6066). Returns false if there is no memory.
 */
bool tls_expect(SSL *ssl, const char *name);

/*
 * Where to note which certificate is refused, and why; before the handshake.
 * It must live as long as the connection.
 */
void tls_note_flaws(SSL *ssl, struct tls_error *flaw);

/*
 * Says in text, which has room for size characters, why the last call on this
 * connection failed. result is what it returned, as for SSL_get_error(): to be
 * called right after it, before any other call of OpenSSL, and before errno
 * changes. Returns text.
 */
const char *tls_reason(const SSL *ssl, int result, char *text, size_t size);

/* Was it the end of the stream, without the close_notify that says that the
 * peer wants it (RFC 8446, 6.1)? Like tls_reason(), and may be called before
 * it. */
bool tls_was_cut(const SSL *ssl, int result);

/* Returns the words for the first error in OpenSSL's queue: it is the cause,
 * those after it say where it came through. */
const char *tls_first_error(void);

/* Where calls wait: each call of OpenSSL on a connection begins with this, so
 * that its queue of errors, and errno, say what became of this call. */
void tls_begin(void);

/*
 * Where calls wait: is the call, which returned result, to be made again? It is
 * if a signal has interrupted it, or a record that was no data. Where its time
 * is up, errno is EAGAIN; OpenSSL says "want" of both, since it does not know
 * whether a socket waits.
 */
bool tls_again(const SSL *ssl, int result);

#endif

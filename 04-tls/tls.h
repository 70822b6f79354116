/*
 * tls: what all connections of a program have in common, an SSL_CTX: its
 * certificate, whom it trusts, and which TLS it speaks. And, for one
 * connection, whom it must be, and what went wrong, in words.
 */
#ifndef TLS_H
#define TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

/* What a context is made of. Each string is the name of a PEM file, or NULL. */
struct tls_files {
    const char *cert; /* our certificate, then those between it and its CA */
    const char *key;  /* the private key that belongs to the first of them */
    const char *ca;   /* whose signatures are believed, and, perhaps, lists of
                       * what they have revoked */
};

/* What went wrong, in words, as a value. "" is nothing. */
struct tls_error {
    char text[512];
};

/*
 * Returns a context for a server, or for a client, for SSL_CTX_free(). alpn is
 * the name of the protocol that is spoken over TLS (RFC 7301), or NULL. It must
 * live as long as the context.
 *
 * With a ca, a server wants a certificate of each client. A client wants one
 * of each server, always; without a ca, of a CA that this system trusts.
 *
 * Returns NULL and *error if a file is missing, is not what it should be, does
 * not belong to the other one, or if it is a key that everybody may read.
 */
SSL_CTX *tls_server_context(const struct tls_files *files, const char *alpn,
                            struct tls_error *error);
SSL_CTX *tls_client_context(const struct tls_files *files, const char *alpn,
                            struct tls_error *error);

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

/* Writes the secrets of each connection to a file that only its owner may
 * read, for Wireshark (--keylog): whoever has it can read all. Returns false
 * and *error if it cannot. */
bool tls_log_secrets(SSL_CTX *context, const char *file,
                     struct tls_error *error);

#endif

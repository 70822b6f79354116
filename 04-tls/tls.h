/*
 * tls: what all connections of a program have in common, an SSL_CTX: its
 * certificate, whom it trusts, and which TLS it speaks.
 */
#ifndef TLS_H
#define TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "tls_peer.h" /* struct tls_error */

/* What a context is made of. Each string is the name of a PEM file, or NULL. */
struct tls_files {
    const char *cert; /* our certificate, then those between it and its CA */
    const char *key;  /* the private key that belongs to the first of them */
    const char *ca;   /* whose signatures are believed, and, perhaps, lists of
                       * what they have revoked */
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

/* Adds the secrets of each connection to a file that only its owner may read,
 * for Wireshark (--keylog): whoever has it can read all. *log becomes its
 * descriptor, and must live as long as the context. Returns false and *error if
 * it cannot. */
bool tls_log_secrets(SSL_CTX *context, const char *file, int *log,
                     struct tls_error *error);

#endif

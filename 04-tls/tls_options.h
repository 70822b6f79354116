/*
 * tls_options: what the servers and the clients of this stage can be told on
 * the command line: which files, and whom to believe.
 */
#ifndef TLS_OPTIONS_H
#define TLS_OPTIONS_H

#include <openssl/ssl.h>

#include "../common/options.h" /* struct options, struct program_option */
#include "tls.h"               /* struct tls_files */

/* Makes the options --cert, --key and --ca of a server, which will be put into
 * *files, and the end of the list. */
void tls_server_options(struct program_option own[4], struct tls_files *files);

/* What a client was told. */
struct tls_client_options {
    struct tls_files files;
    const char *name; /* whose certificate the server must have */
    const char *keylog;
    int log; /* its descriptor, if there is one */
    struct program_option own[6];
};

/*
 * Reads the command line of a client, as parse_options() does, with --ca,
 * --cert, --key, --name (HOST if left out) and --keylog, into *tls, which must
 * live as long as options. Returns the context that they ask for, for
 * SSL_CTX_free(). Bad usage, or a bad file, ends the program.
 */
SSL_CTX *tls_parse_client(struct tls_client_options *tls,
                          struct options *options, const char *alpn, int argc,
                          char **argv);

#endif

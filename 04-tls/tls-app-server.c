/*
 * tls-app-server: app-server over TLS. What it does stands in stage 3, what TLS
 * adds in tls.c and tls_channel.c. Here are its options, and how it takes new
 * certificates without a stop: SIGHUP.
 */
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>

#include "../03-app-protocol/server.h"  /* serve() */
#include "../03-app-protocol/service.h" /* struct service, parse_service() */
#include "../common/report.h"           /* die(), warn(), narrate() */
#include "tls.h"                        /* tls_server_context() … */
#include "tls_channel.h"                /* tls_make_accepting() */
#include "tls_options.h"                /* tls_server_options() */

struct acceptor {
    SSL_CTX *context; /* first: it is what tls_make_accepting() is given */
    struct tls_files files;
};

static SSL_CTX *make_context(const struct acceptor *acceptor,
                             struct tls_error *error)
{
    return tls_server_context(&acceptor->files, "app-protocol/1", error);
}

/* Tickets that clients hold were encrypted with keys of the old context. */
static bool keep_tickets(SSL_CTX *from, SSL_CTX *to)
{
    unsigned char keys[256];
    long len = SSL_CTX_get_tlsext_ticket_keys(from, NULL, 0);
    bool kept = len > 0 && len <= (long)sizeof keys &&
                SSL_CTX_get_tlsext_ticket_keys(from, keys, len) == 1 &&
                SSL_CTX_set_tlsext_ticket_keys(to, keys, len) == 1;

    OPENSSL_cleanse(keys, sizeof keys);
    return kept;
}

/* The new context is complete, and checked, before it takes the place of the
 * old one; if it is not good, the old one stays. Connections that there are
 * keep theirs: each has a share in it, and the last frees it. */
static void reload(void *context)
{
    struct acceptor *acceptor = context;
    struct tls_error error = {""};
    SSL_CTX *fresh = make_context(acceptor, &error);

    if (fresh == NULL) {
        warn("certificates not reloaded: %s", error.text);
        return;
    }
    if (!keep_tickets(acceptor->context, fresh))
        warn("sessions from before cannot be resumed");
    SSL_CTX_free(acceptor->context);
    acceptor->context = fresh;
    narrate("Reloaded the certificates");
}

int main(int argc, char **argv)
{
    struct acceptor acceptor = {NULL, {NULL, NULL, NULL}};
    struct tls_error error = {""};
    struct service service = {
        .channels = {tls_make_accepting, &acceptor},
        .reload = reload,
    };
    struct program_option more[4];
    int status;

    signal(SIGPIPE, SIG_IGN);
    tls_server_options(more, &acceptor.files);
    parse_service(&service,
                  "Answers the requests of many clients, over TLS. SIGHUP "
                  "reloads the files.",
                  more, argc, argv);
    acceptor.context = make_context(&acceptor, &error);
    if (acceptor.context == NULL)
        die("%s", error.text);
    status = serve(&service);
    SSL_CTX_free(acceptor.context);
    return status;
}

/* tls_options: see tls_options.h for what its functions promise. */
#include "tls_options.h"

#include <string.h>

#include "../common/report.h" /* die() */

void tls_server_options(struct program_option own[4], struct tls_files *files)
{
    own[0] = (struct program_option){
        .name = "cert",
        .value = "FILE",
        .purpose = "its certificate, and those up to its CA (PEM)",
        .choice = &files->cert,
        .needed = true,
    };
    own[1] = (struct program_option){
        .name = "key",
        .value = "FILE",
        .purpose = "the private key of the certificate",
        .choice = &files->key,
        .needed = true,
    };
    own[2] = (struct program_option){
        .name = "ca",
        .value = "FILE",
        .purpose = "want a certificate of each client, from this CA",
        .choice = &files->ca,
    };
    own[3] = (struct program_option){.name = NULL};
}

static void client_options(struct tls_client_options *tls)
{
    const struct program_option own[] = {
        {.name = "ca",
         .value = "FILE",
         .choice = &tls->files.ca,
         .purpose = "trust this CA, and not those of the system"},
        {.name = "cert",
         .value = "FILE",
         .choice = &tls->files.cert,
         .purpose = "the client's certificate, if the server wants one"},
        {.name = "key",
         .value = "FILE",
         .choice = &tls->files.key,
         .purpose = "the private key of the certificate"},
        {.name = "name",
         .value = "NAME",
         .choice = &tls->name,
         .purpose = "whose certificate the server must have (HOST)"},
        {.name = "keylog",
         .value = "FILE",
         .choice = &tls->keylog,
         .purpose = "add the secrets to FILE, to decipher a capture"},
        {.name = NULL},
    };

    memcpy(tls->own, own, sizeof own);
}

SSL_CTX *tls_parse_client(struct tls_client_options *tls,
                          struct options *options, const char *alpn, int argc,
                          char **argv)
{
    struct tls_error error = {""};
    SSL_CTX *context;

    *tls = (struct tls_client_options){.name = NULL};
    client_options(tls);
    options->own = tls->own;
    parse_options(options, argc, argv);
    if (tls->name == NULL)
        tls->name = options->host;
    if (!tls_is_name(tls->name))
        usage_error(options, "name", tls->name,
                    "a certificate is for an address, or for a name without a "
                    "dot at its ends");
    if ((tls->files.cert == NULL) != (tls->files.key == NULL))
        usage_error(options, "option", tls->files.cert != NULL ? "cert" : "key",
                    "--cert and --key go together");
    context = tls_client_context(&tls->files, alpn, &error);
    if (context == NULL ||
        (tls->keylog != NULL &&
         !tls_log_secrets(context, tls->keylog, &tls->log, &error)))
        die("%s", error.text);
    return context;
}

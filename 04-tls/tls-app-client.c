/*
 * tls-app-client: app-client over TLS. How it talks to the server and what it
 * says stand in stage 3, what TLS adds in tls.c and tls_channel.c.
 */
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>

#include "../03-app-protocol/ask.h"     /* ask_options, ask() */
#include "../03-app-protocol/client.h"  /* struct client */
#include "../03-app-protocol/message.h" /* MOST_CONTENT */
#include "../common/net.h"              /* resolve() */
#include "../common/options.h"          /* struct options */
#include "tls_channel.h" /* struct tls_client, tls_make_connecting() */
#include "tls_options.h" /* tls_parse_client() */

int main(int argc, char **argv)
{
    struct options options = ask_options;
    struct tls_client_options told;
    struct tls_client tls = {.alpn = "app-protocol/1"};
    struct client client = {
        .channels = {tls_make_connecting, &tls},
        .most_content = MOST_CONTENT,
    };
    struct addrinfo *addresses;

    signal(SIGPIPE, SIG_IGN);
    tls.context = tls_parse_client(&told, &options, tls.alpn, argc, argv);
    tls.name = told.name;
    addresses = resolve(options.host, options.port, 0);
    client.addresses = addresses;
    client.timeout_ms = options.timeout_ms;
    ask(&client, &options);
    freeaddrinfo(addresses);
    SSL_SESSION_free(tls.session);
    SSL_CTX_free(tls.context);
    return EXIT_SUCCESS;
}

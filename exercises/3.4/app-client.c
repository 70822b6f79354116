/*
 * app-client, as stage 3 has it. What it is made of is worth comparing with
 * what you wrote: the request is made in request.c, sent and answered in
 * client.c (read client_ask() and exchange()), its bytes are taken apart in
 * message.c, and what comes of them is printed in ask.c.
 */
#include <signal.h>
#include <stdlib.h>

#include "../common/net.h"     /* resolve() */
#include "../common/options.h" /* struct options, parse_options() */
#include "ask.h"               /* ask_options, ask() */
#include "channel.h"           /* tcp_channels */
#include "client.h"            /* struct client */
#include "message.h"           /* MOST_CONTENT */

int main(int argc, char **argv)
{
    struct options options = ask_options;
    struct client client = {
        .channels = tcp_channels,
        .most_content = MOST_CONTENT,
    };
    struct addrinfo *addresses;

    signal(SIGPIPE, SIG_IGN);
    parse_options(&options, argc, argv);
    addresses = resolve(options.host, options.port, 0);
    client.addresses = addresses;
    client.timeout_ms = options.timeout_ms;
    ask(&client, &options);
    freeaddrinfo(addresses);
    return EXIT_SUCCESS;
}

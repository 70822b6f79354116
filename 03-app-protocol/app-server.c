/*
 * app-server: answers requests of the protocol in docs/protocol.md, for
 * thousands of clients at a time. What it does stands in server.c, what it
 * says in answer.c; here are its options.
 */
#include <signal.h>

#include "../common/options.h"  /* struct options, parse_options() */
#include "../common/selector.h" /* selector_backends */
#include "channel.h"            /* tcp_channels */
#include "message.h"            /* MOST_CONTENT */
#include "server.h"             /* struct service, serve() */

int main(int argc, char **argv)
{
    struct service service = {
        .backend = selector_backends[0],
        .most_connections = 10000,
        .workers = 1,
        .channels = tcp_channels,
    };
    long most_content = MOST_CONTENT;
    const struct program_option own[] = {
        {'n', "connections", "N", "as many at a time, for each worker (10000)",
         .number = &service.most_connections, .lowest = 1, .highest = 1000000},
        {'m', "most", "BYTES",
         "longest content, to 1 GiB (1 MiB); of JSON: 128 KiB",
         .number = &most_content, .highest = 1L << 30},
        {'w', "workers", "N", "processes (1)", .number = &service.workers,
         .lowest = 1, .highest = 256},
        {'b', "backend", "NAME", "epoll, poll or select (the best there is)",
         .choice = &service.backend, .choices = selector_backends},
        {.name = NULL},
    };
    struct options options = {
        .arguments = "[HOST [PORT]]",
        .purpose = "Answers the requests of many clients.",
        .timeout = "the longest time for each phase",
        .most_arguments = 2,
        .listens = true,
        .own = own,
    };

    signal(SIGPIPE, SIG_IGN);
    parse_options(&options, argc, argv);
    service.host = options.host;
    service.port = options.port;
    service.timeout_ms = options.timeout_ms;
    service.most_content = (size_t)most_content;
    return serve(&service);
}

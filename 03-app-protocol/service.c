/* service: see service.h for what its function promises. */
#include "service.h"

#include "../common/selector.h" /* selector_backends */
#include "message.h"            /* MOST_CONTENT */

enum { MOST_OPTIONS = 16 };

void parse_service(struct service *service, const char *purpose,
                   const struct program_option *more, int argc, char **argv)
{
    long most_content = MOST_CONTENT;
    struct program_option own[MOST_OPTIONS + 1] = {
        {'n', "connections", "N", "as many at a time, for each worker (10000)",
         .number = &service->most_connections, .lowest = 1, .highest = 1000000},
        {'m', "most", "BYTES",
         "longest content, to 1 GiB (1 MiB); of JSON: 128 KiB",
         .number = &most_content, .highest = 1L << 30},
        {'w', "workers", "N", "processes (1)", .number = &service->workers,
         .lowest = 1, .highest = 256},
        {'b', "backend", "NAME", "epoll, poll or select (the best there is)",
         .choice = &service->backend, .choices = selector_backends},
    };
    struct options options = {
        .arguments = "[HOST [PORT]]",
        .purpose = purpose,
        .timeout = "the longest time for each phase",
        .most_arguments = 2,
        .listens = true,
        .own = own,
    };

    for (int i = 4; more != NULL && more->name != NULL && i < MOST_OPTIONS; i++)
        own[i] = *more++;
    service->backend = selector_backends[0];
    service->most_connections = 10000;
    service->workers = 1;
    parse_options(&options, argc, argv);
    service->host = options.host;
    service->port = options.port;
    service->timeout_ms = options.timeout_ms;
    service->most_content = (size_t)most_content;
}

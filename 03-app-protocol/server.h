/*
 * server: any number of clients, any number of requests on each connection,
 * answered in order; over any channel.
 */
#ifndef SERVER_H
#define SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include "channel.h" /* struct channel_maker */

struct service {
    const char *host, *port;
    const char *backend;   /* one of selector_backends */
    long timeout_ms;       /* for each phase of a connection */
    long most_connections; /* for each worker */
    size_t most_content;   /* bytes, of content that is not JSON */
    long workers;          /* processes that share the listener */
    struct channel_maker channels;
};

/* Serves until SIGINT or SIGTERM. Returns the exit status of the program: 0,
 * or 1 if a worker died. Dies if it cannot begin. */
int serve(const struct service *service);

#endif

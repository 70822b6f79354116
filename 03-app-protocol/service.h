/*
 * service: what a server is asked to be, and how a command line asks for it.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include <stddef.h>

#include "../common/options.h" /* struct program_option */
#include "channel.h"           /* struct channel_maker */

struct service {
    const char *host, *port;
    const char *backend;   /* one of selector_backends */
    long timeout_ms;       /* for each phase of a connection */
    long most_connections; /* for each worker */
    size_t most_content;   /* bytes, of content that is not JSON */
    long workers;          /* processes that share the listener */
    struct channel_maker channels;

    /* Called with the context of channels when SIGHUP comes, in each worker;
     * NULL: SIGHUP ends the program. */
    void (*reload)(void *context);
};

/*
 * Reads the command line into all of *service but channels and reload, and
 * more, the options that this program has beside those of every server (the
 * last has no name; NULL: none). purpose is for usage: one sentence. Bad usage
 * ends the program.
 */
void parse_service(struct service *service, const char *purpose,
                   const struct program_option *more, int argc, char **argv);

#endif

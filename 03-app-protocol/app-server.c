/*
 * app-server: answers requests of the protocol in docs/protocol.md, for
 * thousands of clients at a time. What it can be told stands in service.c,
 * what it does in server.c, what it says in answer.c.
 */
#include <signal.h>

#include "channel.h" /* tcp_channels */
#include "server.h"  /* serve() */
#include "service.h" /* struct service, parse_service() */

int main(int argc, char **argv)
{
    struct service service = {.channels = tcp_channels};

    signal(SIGPIPE, SIG_IGN);
    parse_service(&service, "Answers the requests of many clients.", NULL, argc,
                  argv);
    return serve(&service);
}

/*
 * ask: what the person at app-client wants: words become requests, responses
 * become lines on standard output.
 */
#ifndef ASK_H
#define ASK_H

#include "../common/options.h" /* struct options */
#include "client.h"            /* struct client */

/* What all clients that ask have in common: what they are for, and which
 * arguments they want. To be copied, and given to parse_options(). */
extern const struct options ask_options;

/*
 * Asks what the arguments after HOST and PORT say (see request.h), or, if
 * that is "-", what each line of standard input says; prints the answers, and
 * ends the connection. Anything but a good response is an error: it dies.
 */
void ask(struct client *client, const struct options *options);

#endif

/*
 * server: any number of clients, any number of requests on each connection,
 * answered in order; over any channel.
 */
#ifndef SERVER_H
#define SERVER_H

#include "service.h" /* struct service */

/* Serves until SIGINT or SIGTERM. Returns the exit status of the program: 0,
 * or 1 if a worker died. Dies if it cannot begin. */
int serve(const struct service *service);

#endif

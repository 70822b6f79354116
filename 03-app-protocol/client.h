/*
 * client: one connection to a server of the protocol, one request at a time,
 * over any channel. Each phase (connecting, sending a request, receiving its
 * response) has a deadline of its own, which no byte puts off.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <netdb.h>
#include <stdbool.h>

#include "../common/buffer.h" /* struct buffer */
#include "../common/net.h"    /* struct address_name */
#include "channel.h"          /* struct channel, struct channel_maker */
#include "message.h"          /* struct message, struct decoder */

/*
 * Connects to the first of the addresses from resolve() that answers, by one
 * deadline for all, a time of now_ms(). Returns the socket, which does not
 * block, or -1 and errno; *server is the address that was tried last.
 */
int connect_any(const struct addrinfo *addresses, long long deadline,
                struct address_name *server);

struct client {
    /* Set by its user. */
    struct channel_maker channels;
    const struct addrinfo *addresses; /* from resolve() */
    long timeout_ms;                  /* for each phase */
    size_t most_content;              /* bytes, of content that is not JSON */

    /* Set by the functions below. */
    struct channel *channel; /* NULL: not connected */
    struct address_name server;
    struct decoder decoder; /* its message is the last response */
    struct buffer input;
    bool broken;     /* what is sent from now on would not be understood */
    bool ended;      /* nothing more can come */
    char error[400]; /* what failed, and why, or "" */
};

/*
 * Sends a request and receives its response, which is client->decoder.message
 * until the next call. Connects first if there is no connection, or if the
 * server has closed it since the last response. A response that comes while
 * the request is still being sent, or after sending has failed, counts.
 * Returns false and client->error if there is none, and has closed then.
 */
bool client_ask(struct client *client, const struct message *request);

/* Says that nothing more will be asked, and waits, 2 s at most, for the
 * server's end. Returns false and client->error if the server says more than
 * it was asked. An end that was not polite does no harm, since each response
 * is complete by its length: it returns true, and client->error tells. */
bool client_finish(struct client *client);

/* Ends the connection, if there is one, and frees what belongs to it. */
void client_close(struct client *client);

#endif

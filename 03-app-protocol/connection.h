/*
 * connection: one client of the server, from its handshake to its end. It
 * knows its channel, but no selector, no clock and no other connection: it is
 * moved on by a step, and says what it waits for.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "../common/buffer.h"   /* struct buffer */
#include "../common/deadline.h" /* struct deadline */
#include "../common/net.h"      /* struct address_name */
#include "channel.h"            /* struct channel */
#include "message.h"            /* struct decoder */

/* A connection is in exactly one of these. */
enum phase {
    HANDSHAKE, /* the channel is not open yet */
    IDLE,      /* no request has begun */
    REQUEST,   /* a request has begun, and is not complete */
    RESTING,   /* a costly one is complete, and others come first */
    RESPONSE,  /* a response is due, or on its way */
    CLOSING,   /* all is said; the peer has not finished yet */
    ENDED
};

struct connection {
    struct channel *channel;
    struct address_name peer;
    enum phase phase;
    bool phase_began;     /* since its user has looked, and set this to false */
    enum io_status waits; /* what reading or writing last asked for */
    struct buffer input, output;
    struct decoder decoder;
    enum decoded decoded;     /* what it says of input */
    bool ended;               /* the client has finished sending */
    bool last;                /* the next response is the last */
    size_t rests;             /* turns left to others, while RESTING */
    size_t drained;           /* bytes, while CLOSING */
    char reason[256];         /* why it ends, or "" */
    struct deadline deadline; /* its user's, for the phase */
};

/* Makes a connection in the phase HANDSHAKE, for connection_free(), to which
 * the channel belongs from now on; most_content as in decoder_start(). Returns
 * NULL if there is no memory, or no channel, and then the channel is freed. */
struct connection *connection_new(struct channel *channel,
                                  struct address_name peer,
                                  size_t most_content);
void connection_free(struct connection *connection);

/* Moves it on: at most one write, one read, one answer, and one more write.
 * To be called when what it waits for has come. */
void connection_advance(struct connection *connection);

/* The same when the deadline of its phase, so many seconds long, has come. */
void connection_expire(struct connection *connection, double seconds);

/* The server stops: a response on its way may still go, and arrive. */
void connection_stop(struct connection *connection);

/* Ends it for a lack, or a fault of the network. */
void connection_fail(struct connection *connection, const char *why);

/* What it waits for: SELECTOR_READ or SELECTOR_WRITE. */
int connection_interest(const struct connection *connection);

#endif

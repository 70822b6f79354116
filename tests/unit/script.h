/*
 * script: a channel without a network, that does what a test says: it gives
 * and takes bytes in pieces, makes reading and writing wait for readability
 * or writability in turn, as TLS may, ends, and fails.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

#include "../../03-app-protocol/channel.h"    /* struct channel */
#include "../../03-app-protocol/connection.h" /* struct connection */
#include "../../common/buffer.h"              /* struct buffer */

struct script {
    struct channel channel;

    /* Set by the test, at any time. */
    const unsigned char *bytes; /* what the peer sends */
    size_t sent;                /* how many of them have come */
    bool finished;              /* after these, the peer's end comes */
    bool cut;                   /* that end is not polite */
    size_t piece;               /* most bytes of a read or a write */
    size_t room;                /* bytes that writing may take as yet */
    bool dances;                /* every call asks to wait, twice, before */
    bool hides;                 /* what has come is pending, not announced */
    const char *read_fails, *write_fails, *open_fails;

    /* What has become of it. */
    size_t read;         /* of these bytes */
    struct buffer taken; /* what was written */
    int reads, writes, closings;
    bool broken;         /* open or read has failed, or an end was not polite */
    bool closed;         /* for writing */
    enum io_status said; /* by the last call */
    int steps[4];        /* of the dance, for each kind of call */
    bool *freed;         /* where to say that it is, or NULL */
};

/* Makes one that sends these bytes and is finished then, in one piece. It
 * belongs to whom its channel belongs to. */
struct script *script_new(const void *bytes, size_t len);

/* Makes a connection over it. */
struct connection *script_connection(struct script *script,
                                     size_t most_content);

/*
 * Advances a connection as a server would, only when what it waits for has
 * come (and once at its beginning), until it has ended or waits for what does
 * not come. Ends the program if it waits for the wrong thing, or for ever.
 */
void script_run(struct script *script, struct connection *connection);

#endif

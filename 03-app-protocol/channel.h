/*
 * channel: the bytes of one connection, whatever carries them. The server
 * and the client know only this; a channel over TCP is here, one over TLS
 * comes in stage 4, and the tests have one that gives a byte at a time.
 *
 * No call waits. Each says what it would have to wait for instead. Programs
 * that use a channel ignore SIGPIPE.
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <stdbool.h>
#include <stddef.h>

enum io_status {
    IO_OK,         /* done; count says how many bytes, at least one */
    IO_WANT_READ,  /* not now: call again when the descriptor is readable */
    IO_WANT_WRITE, /* not now: call again when it is writable */
    IO_END,        /* the peer has finished sending, and will again if asked;
                    * if that was not polite, channel->error says so */
    IO_ERROR       /* the connection has failed; channel->error says why */
};

struct io {
    enum io_status status;
    size_t count; /* bytes done; with IO_WANT_READ, bytes that came in vain */
};

struct channel {
    const struct channel_calls *calls;
    int fd;          /* for the selector; belongs to the channel */
    char error[256]; /* or "" */
};

/* What a kind of channel can do. After a write that failed, there may still be
 * something to be read. After open or read has failed, close_write says so to
 * the peer, as far as can be, and read takes what comes and gives none of it,
 * until the end: a lingering close. */
struct channel_calls {
    /* Begins the conversation, as often as it must be called: IO_OK ends. */
    enum io_status (*open)(struct channel *channel);

    /* Reads at most size bytes; writes at most len, and perhaps fewer. Only a
     * read can come to the peer's end: a write never returns IO_END. */
    struct io (*read)(struct channel *channel, void *bytes, size_t size);
    struct io (*write)(struct channel *channel, const void *bytes, size_t len);

    /* Says that nothing more will be written: the peer reads the end. May be
     * called again, and then does nothing new. */
    enum io_status (*close_write)(struct channel *channel);

    /* Are there bytes to be read that no readiness will announce? May be asked
     * before open has ended. */
    bool (*pending)(const struct channel *channel);

    /* Ends the connection, and closes the descriptor. */
    void (*free)(struct channel *channel);
};

/* How a server or a client makes a channel of a connected descriptor, which
 * belongs to the channel from then on. make returns NULL if there is no
 * memory, and then has closed the descriptor. */
struct channel_maker {
    struct channel *(*make)(int fd, void *context);
    void *context;
};

/* Makes channels over TCP. */
extern const struct channel_maker tcp_channels;

#endif

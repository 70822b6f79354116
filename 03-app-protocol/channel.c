/* channel: see channel.h. This is the channel over TCP, where each call is
 * one system call. */
#include "channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct io failed(struct channel *channel, enum io_status want)
{
    if (errno == EAGAIN || errno == EINTR)
        return (struct io){want, 0};
    snprintf(channel->error, sizeof channel->error, "%s", strerror(errno));
    return (struct io){IO_ERROR, 0};
}

static enum io_status open_tcp(struct channel *channel)
{
    (void)channel; /* connect() and accept() have done it */
    return IO_OK;
}

static struct io read_tcp(struct channel *channel, void *bytes, size_t size)
{
    ssize_t n = recv(channel->fd, bytes, size, 0);

    if (n < 0)
        return failed(channel, IO_WANT_READ);
    return (struct io){n > 0 ? IO_OK : IO_END, (size_t)n};
}

static struct io write_tcp(struct channel *channel, const void *bytes,
                           size_t len)
{
    ssize_t n = send(channel->fd, bytes, len, 0);

    if (n < 0)
        return failed(channel, IO_WANT_WRITE);
    return (struct io){IO_OK, (size_t)n};
}

static enum io_status close_write_tcp(struct channel *channel)
{
    /* ENOTCONN: it has ended on both sides already, or a reset came, and then
     * a read will say so. */
    if (shutdown(channel->fd, SHUT_WR) < 0 && errno != ENOTCONN)
        return failed(channel, IO_WANT_WRITE).status;
    return IO_OK;
}

static bool pending_tcp(const struct channel *channel)
{
    (void)channel; /* whatever there is makes the descriptor readable */
    return false;
}

static void free_tcp(struct channel *channel)
{
    close(channel->fd);
    free(channel);
}

static struct channel *make_tcp(int fd, void *context)
{
    static const struct channel_calls calls = {
        .open = open_tcp,
        .read = read_tcp,
        .write = write_tcp,
        .close_write = close_write_tcp,
        .pending = pending_tcp,
        .free = free_tcp,
    };
    struct channel *channel = calloc(1, sizeof *channel);

    (void)context;
    if (channel == NULL) {
        close(fd);
        return NULL;
    }
    channel->calls = &calls;
    channel->fd = fd;
    return channel;
}

const struct channel_maker tcp_channels = {make_tcp, NULL};

/*
 * bare-epoll: what "make bench-2" and "make bench-3" compare the servers with,
 * and no model for one. A loop around epoll that sends back what it receives,
 * or, given a file, the bytes of this for whatever it receives. It does nothing
 * else: it keeps nothing about a connection, looks at no byte, has no deadline,
 * says nothing, and ends when something is amiss.
 *
 * Everything else is the same as in the server that it stands beside: the size
 * of a receive, the options of a socket, and so, for a message, one recv() and
 * one send(). As an echo, its sockets block, so send() returns when the kernel
 * has all bytes, and none is lost; but a client that does not read stops it for
 * everybody, which a server must not allow.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../../common/net.h" /* start_listening(), set_socket_option() … */
#include "../../common/options.h" /* struct options, parse_options() */
#include "../../common/report.h"  /* die() */
#include "file.h"                 /* struct file, read_file() */

struct loop {
    int listener, epoll;
    struct file reply; /* empty: it is an echo */
};

static void watch(const struct loop *loop, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* As c10k-server does, or as app-server. */
static bool prepare(const struct loop *loop, int fd)
{
    return set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
           (loop->reply.len > 0
                ? fcntl(fd, F_SETFL, O_NONBLOCK) == 0
                : set_socket_option(fd, SOL_SOCKET, SO_SNDBUF, 65536));
}

static void welcome(const struct loop *loop)
{
    int fd = accept(loop->listener, NULL, NULL);

    if (fd < 0 || !prepare(loop, fd))
        die("accept: %s", strerror(errno));
    watch(loop, fd);
}

/* The end of a stream and an error are treated alike; epoll forgets what is
 * closed. */
static void answer(const struct loop *loop, int fd)
{
    unsigned char buf[16384];
    const unsigned char *bytes = loop->reply.len > 0 ? loop->reply.bytes : buf;
    ssize_t received = recv(fd, buf, sizeof buf, 0);
    ssize_t len = loop->reply.len > 0 ? (ssize_t)loop->reply.len : received;

    if (received <= 0 || send(fd, bytes, (size_t)len, 0) != len)
        close(fd);
}

int main(int argc, char **argv)
{
    enum { AT_ONCE = 256 };
    static struct loop loop;
    struct epoll_event list[AT_ONCE];
    struct options options = {
        .arguments = "[HOST [PORT [REPLY]]]",
        .purpose = "Sends back what clients send, as fast as epoll can, or "
                   "the bytes of the file\nREPLY for each receive.",
        .most_arguments = 3,
        .listens = true,
        .no_timeout = true,
    };

    signal(SIGPIPE, SIG_IGN);
    parse_options(&options, argc, argv);
    if (options.rest[0] != NULL)
        loop.reply = read_file(options.rest[0]);
    raise_descriptor_limit();
    loop.listener = start_listening(options.host, options.port);
    loop.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop.epoll < 0)
        die("epoll_create1: %s", strerror(errno));
    watch(&loop, loop.listener);
    for (;;) {
        int count = epoll_wait(loop.epoll, list, AT_ONCE, -1);

        for (int i = 0; i < count; i++)
            if (list[i].data.fd == loop.listener)
                welcome(&loop);
            else
                answer(&loop, list[i].data.fd);
    }
}

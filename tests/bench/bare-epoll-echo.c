/*
 * bare-epoll-echo: what "make bench-2" compares c10k-server with, and no model
 * for a server. A loop around epoll that sends back what it receives and does
 * nothing else: it keeps nothing about a connection, has no deadline, says
 * nothing, and ends when something is amiss. The sockets block, so send()
 * returns when the kernel has all bytes, and none is lost; but a client that
 * does not read stops it for everybody, which c10k-server must not allow.
 *
 * Everything else is the same for both: the size of a receive, the options of
 * a socket, and so, for a message, one recv() and one send().
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../../common/net.h" /* start_listening(), set_socket_option() … */
#include "../../common/options.h" /* struct options, parse_options() */
#include "../../common/report.h"  /* die() */

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void welcome(int epoll, int listener)
{
    int fd = accept(listener, NULL, NULL);

    if (fd < 0 || !set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) ||
        !set_socket_option(fd, SOL_SOCKET, SO_SNDBUF, 65536))
        die("accept: %s", strerror(errno));
    watch(epoll, fd);
}

/* The end of a stream and an error are treated alike; epoll forgets what is
 * closed. */
static void echo(int fd)
{
    unsigned char buf[16384];
    ssize_t received = recv(fd, buf, sizeof buf, 0);

    if (received <= 0 || send(fd, buf, (size_t)received, 0) != received)
        close(fd);
}

int main(int argc, char **argv)
{
    enum { AT_ONCE = 256 };
    struct epoll_event list[AT_ONCE];
    struct options options = {
        .arguments = "[HOST [PORT]]",
        .purpose = "Sends back what clients send, as fast as epoll can.",
        .most_arguments = 2,
        .listens = true,
        .no_timeout = true,
    };
    int listener, epoll;

    signal(SIGPIPE, SIG_IGN);
    parse_options(&options, argc, argv);
    raise_descriptor_limit();
    listener = start_listening(options.host, options.port);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        die("epoll_create1: %s", strerror(errno));
    watch(epoll, listener);
    for (;;) {
        int count = epoll_wait(epoll, list, AT_ONCE, -1);

        for (int i = 0; i < count; i++)
            if (list[i].data.fd == listener)
                welcome(epoll, listener);
            else
                echo(list[i].data.fd);
    }
}

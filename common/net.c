/* net: see net.h for what each function promises. */
#include "net.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Is it an IPv4 address in the form that IPv6 sockets have for it? */
static bool is_mapped(const struct sockaddr *address)
{
    struct sockaddr_in6 v6;

    memcpy(&v6, address, sizeof v6);
    return IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
}

struct address_name name_address(const struct sockaddr *address, socklen_t len)
{
    struct address_name name = {"unknown address"};
    char host[64], port[8];

    if (getnameinfo(address, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return name;
    if (address->sa_family == AF_INET6 && is_mapped(address))
        snprintf(name.text, sizeof name.text, "%s:%s", strrchr(host, ':') + 1,
                 port); /* ::ffff:127.0.0.1 */
    else if (address->sa_family == AF_INET6)
        snprintf(name.text, sizeof name.text, "[%s]:%s", host, port);
    else
        snprintf(name.text, sizeof name.text, "%s:%s", host, port);
    return name;
}

struct addrinfo *resolve(const char *host, const char *port, int flags)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = flags};
    struct addrinfo *list;
    int error = getaddrinfo(host, port, &hints, &list);

    if (error != 0)
        die("resolve %s: %s", host, gai_strerror(error));
    return list;
}

bool set_socket_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/* Returns a socket that listens on this address, or -1 and errno. */
static int listen_on(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, address->ai_socktype, 0);
    int error;

    if (fd < 0)
        return -1;
    if (address->ai_family == AF_INET6) /* "::" shall serve IPv4, too */
        set_socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
        set_socket_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
        bind(fd, address->ai_addr, address->ai_addrlen) == 0 &&
        listen(fd, SOMAXCONN) == 0)
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

static void announce(int listener)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;

    if (getsockname(listener, (struct sockaddr *)&address, &len) < 0)
        die("getsockname: %s", strerror(errno));
    while (dprintf(STDOUT_FILENO, "Listening on %s\n",
                   name_address((struct sockaddr *)&address, len).text) < 0)
        if (errno != EINTR)
            die("standard output: %s", strerror(errno));
}

int start_listening(const char *host, const char *port)
{
    struct addrinfo *list = resolve(host, port, AI_PASSIVE);
    struct address_name name = {""};
    int listener = -1;

    for (struct addrinfo *at = list; at != NULL && listener < 0;
         at = at->ai_next) {
        name = name_address(at->ai_addr, at->ai_addrlen);
        listener = listen_on(at);
    }
    if (listener < 0)
        die("listen on %s: %s", name.text, strerror(errno));
    freeaddrinfo(list);
    announce(listener);
    return listener;
}

/* Did accept() fail for want of a client? Linux passes on what befell a
 * connection while it waited, and accept(2) says to go on as with EAGAIN. */
static bool nobody_there(int error)
{
    static const int errors[] = {
        EAGAIN,     EWOULDBLOCK, ECONNABORTED, EPROTO,       ENOPROTOOPT,
        EOPNOTSUPP, ENETDOWN,    ENETUNREACH,  EHOSTUNREACH,
    };

    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (error == errors[i])
            return true;
    return false;
}

int accept_connection(int listener, struct address_name *peer)
{
    struct sockaddr_storage address;
    socklen_t len;
    int fd;

    do {
        len = sizeof address;
        fd = accept(listener, (struct sockaddr *)&address, &len);
    } while (fd < 0 && errno == EINTR);
    if (fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) {
        *peer = name_address((struct sockaddr *)&address, len);
        return fd;
    }
    if (fd >= 0) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
        die("accept: %s", strerror(errno));
    if (nobody_there(errno))
        errno = EAGAIN;
    return -1;
}

void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

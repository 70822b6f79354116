/*
 * shim: loaded into a program by LD_PRELOAD, it makes the kernel look less
 * obliging than it usually is on loopback. Reading and writing have limits of
 * their own, since limiting both at once can hide a mistake in one.
 *
 *   SHIM_RECEIVE=N   recv() and read() return at most N bytes
 *   SHIM_SEND=N      send() and write() to a socket take at most N bytes
 *   SHIM_EINTR=N     every Nth of these calls, accept() included, is
 *                    interrupted by a signal before it does anything
 *
 * close() spoils errno, as it may, and the name "two.example" has the
 * addresses 127.0.0.2 and 127.0.0.1.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t limit(const char *name, size_t size)
{
    const char *text = getenv(name);
    size_t most = text != NULL ? strtoul(text, NULL, 10) : 0;

    return most > 0 && most < size ? most : size;
}

static int interrupted(void)
{
    static unsigned long calls;
    const char *text = getenv("SHIM_EINTR");
    unsigned long every = text != NULL ? strtoul(text, NULL, 10) : 0;

    if (every == 0 || ++calls % every != 0)
        return 0;
    errno = EINTR;
    return 1;
}

static int is_socket(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    if (interrupted())
        return -1;
    return recvfrom(fd, bytes, limit("SHIM_RECEIVE", size), flags, NULL, NULL);
}

/* What recv() and read() are called in programs built with FORTIFY. */
ssize_t __recv_chk(int fd, void *bytes, size_t size, size_t room, int flags);
ssize_t __recv_chk(int fd, void *bytes, size_t size, size_t room, int flags)
{
    return recv(fd, bytes, size < room ? size : room, flags);
}

ssize_t __read_chk(int fd, void *bytes, size_t size, size_t room);
ssize_t __read_chk(int fd, void *bytes, size_t size, size_t room)
{
    return read(fd, bytes, size < room ? size : room);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    if (interrupted())
        return -1;
    return sendto(fd, bytes, limit("SHIM_SEND", size), flags, NULL, 0);
}

ssize_t read(int fd, void *bytes, size_t size)
{
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");

    if (interrupted())
        return -1;
    return real(fd, bytes, limit("SHIM_RECEIVE", size));
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");

    if (interrupted())
        return -1;
    return real(fd, bytes, is_socket(fd) ? limit("SHIM_SEND", size) : size);
}

int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict len)
{
    if (interrupted())
        return -1;
    return accept4(fd, address, len, 0);
}

int close(int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    int result = real(fd);

    errno = ENOTTY;
    return result;
}

int getaddrinfo(const char *host, const char *port,
                const struct addrinfo *hints, struct addrinfo **list)
{
    int (*real)(const char *, const char *, const struct addrinfo *,
                struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    struct addrinfo *second;
    int error;

    if (host == NULL || strcmp(host, "two.example") != 0)
        return real(host, port, hints, list);
    error = real("127.0.0.1", port, hints, &second);
    if (error != 0)
        return error;
    error = real("127.0.0.2", port, hints, list);
    if (error == 0)
        (*list)->ai_next = second; /* freeaddrinfo() follows the chain */
    return error;
}

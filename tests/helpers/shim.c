/*
 * shim: loaded into a program by LD_PRELOAD, it makes the kernel look less
 * obliging than it usually is on loopback. Reading and writing have limits of
 * their own, since limiting both at once can hide a mistake in one.
 *
 *   SHIM_RECEIVE=N   recv() and read() return at most N bytes
 *   SHIM_SEND=N      send() and write() to a socket take at most N bytes
 *   SHIM_EINTR=N     every Nth of these calls, accept() included, is
 *                    interrupted by a signal before it does anything (but not
 *                    the reading of a file that the program has opened itself:
 *                    no signal interrupts that)
 *   SHIM_EAGAIN=N    one in N of these calls on a socket that does not block,
 *                    by chance, would have to wait, although the kernel said
 *                    that it is ready
 *   SHIM_TERM=N      SIGTERM comes at the worst moment: right before the Nth
 *                    wait by select(), pselect(), poll() or epoll_wait()
 *   SHIM_TAKEN=N     before the Nth accept(), another process has taken the
 *                    first client in the queue
 *   SHIM_RESOLVER=N  getnameinfo() takes N seconds to find a name
 *   SHIM_VERIFY=     what OpenSSL is asked to verify, on standard error
 *
 * close() spoils errno, as it may; the time of day jumps an hour ahead each
 * time that it is asked for; and the name "two.example" has the addresses
 * 127.0.0.2 and 127.0.0.1.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
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

/* For a file on a disk, no read() waits, and so none is interrupted. */
static int is_file(int fd)
{
    struct stat status;

    return fd > 2 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

/* Must the caller come back later? By chance, which is the same in every run:
 * each Nth call could be the same one in each turn of a loop, for ever. */
static int put_off(int fd)
{
    static unsigned long chance = 1;
    const char *text = getenv("SHIM_EAGAIN");
    unsigned long every = text != NULL ? strtoul(text, NULL, 10) : 0;

    if (every == 0 || !is_socket(fd) || !(fcntl(fd, F_GETFL) & O_NONBLOCK))
        return 0;
    chance = (chance * 1103515245 + 12345) & 0x7fffffff;
    if ((chance >> 16) % every != 0)
        return 0;
    errno = EAGAIN;
    return 1;
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    if (interrupted() || put_off(fd))
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
    if (interrupted() || put_off(fd))
        return -1;
    return sendto(fd, bytes, limit("SHIM_SEND", size), flags, NULL, 0);
}

ssize_t read(int fd, void *bytes, size_t size)
{
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");

    if ((!is_file(fd) && interrupted()) || put_off(fd))
        return -1;
    return real(fd, bytes, limit("SHIM_RECEIVE", size));
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");

    if (interrupted() || put_off(fd))
        return -1;
    return real(fd, bytes, is_socket(fd) ? limit("SHIM_SEND", size) : size);
}

/* Has another process been quicker to take the client that waits here? */
static int taken(int listener)
{
    static unsigned long clients;
    struct pollfd queue = {.fd = listener, .events = POLLIN};
    const char *text = getenv("SHIM_TAKEN");

    return text != NULL && poll(&queue, 1, 0) == 1 &&
           ++clients == strtoul(text, NULL, 10);
}

int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict len)
{
    if (interrupted())
        return -1;
    if (taken(fd))
        close(accept4(fd, NULL, NULL, 0));
    return accept4(fd, address, len, 0);
}

int close(int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    int result = real(fd);

    errno = ENOTTY;
    return result;
}

/* Called by each wait, before it waits. */
static void before_waiting(void)
{
    static unsigned long waits;
    const char *text = getenv("SHIM_TERM");

    if (text != NULL && ++waits == strtoul(text, NULL, 10))
        raise(SIGTERM);
}

int select(int count, fd_set *restrict readers, fd_set *restrict writers,
           fd_set *restrict others, struct timeval *restrict timeout)
{
    int (*real)(int, fd_set *, fd_set *, fd_set *, struct timeval *) =
        dlsym(RTLD_NEXT, "select");

    before_waiting();
    return real(count, readers, writers, others, timeout);
}

int pselect(int count, fd_set *restrict readers, fd_set *restrict writers,
            fd_set *restrict others, const struct timespec *restrict timeout,
            const sigset_t *restrict mask)
{
    int (*real)(int, fd_set *, fd_set *, fd_set *, const struct timespec *,
                const sigset_t *) = dlsym(RTLD_NEXT, "pselect");

    before_waiting();
    return real(count, readers, writers, others, timeout, mask);
}

int poll(struct pollfd *list, nfds_t count, int timeout)
{
    int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");

    before_waiting();
    return real(list, count, timeout);
}

int __poll_chk(struct pollfd *list, nfds_t count, int timeout, size_t room);
int __poll_chk(struct pollfd *list, nfds_t count, int timeout, size_t room)
{
    (void)room;
    return poll(list, count, timeout);
}

int epoll_wait(int fd, struct epoll_event *list, int count, int timeout)
{
    int (*real)(int, struct epoll_event *, int, int) =
        dlsym(RTLD_NEXT, "epoll_wait");

    before_waiting();
    return real(fd, list, count, timeout);
}

/* By how many seconds the time of day has been set ahead so far. */
static time_t jump(void)
{
    static time_t ahead;

    return ahead += 3600;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*real)(clockid_t, struct timespec *) =
        dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);

    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        now->tv_sec += jump();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);

    now->tv_sec += jump();
    return result;
}

time_t time(time_t *now)
{
    struct timespec spec;

    clock_gettime(CLOCK_REALTIME, &spec);
    if (now != NULL)
        *now = spec.tv_sec;
    return spec.tv_sec;
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

int getnameinfo(const struct sockaddr *restrict address, socklen_t len,
                char *restrict host, socklen_t host_len, char *restrict port,
                socklen_t port_len, int flags)
{
    int (*real)(const struct sockaddr *, socklen_t, char *, socklen_t, char *,
                socklen_t, int) = dlsym(RTLD_NEXT, "getnameinfo");
    const char *text = getenv("SHIM_RESOLVER");

    if (text != NULL && (flags & NI_NUMERICHOST) == 0) {
        dprintf(STDERR_FILENO, "getnameinfo() asks a name server\n");
        sleep((unsigned)strtoul(text, NULL, 10));
    }
    return real(address, len, host, host_len, port, port_len, flags);
}

/* --- Whom OpenSSL verifies ------------------------------------------------ */

static void tell_verification(int mode, void *callback)
{
    static const char *const words[] = {"nobody", "the peer"};

    if (getenv("SHIM_VERIFY") != NULL)
        dprintf(STDERR_FILENO, "verifies %s%s\n", words[mode & 1],
                callback != NULL ? ", by a callback" : "");
}

void SSL_CTX_set_verify(void *context, int mode, void *callback)
{
    void (*real)(void *, int, void *) =
        (void (*)(void *, int, void *))dlsym(RTLD_NEXT, __func__);

    tell_verification(mode, callback);
    real(context, mode, callback);
}

void SSL_set_verify(void *ssl, int mode, void *callback)
{
    void (*real)(void *, int, void *) =
        (void (*)(void *, int, void *))dlsym(RTLD_NEXT, __func__);

    tell_verification(mode, callback);
    real(ssl, mode, callback);
}

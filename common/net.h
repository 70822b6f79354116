/*
 * net: small services around the socket calls, for all stages: what stage 1
 * has written out, in one call each.
 */
#ifndef COMMON_NET_H
#define COMMON_NET_H

#include <netdb.h>
#include <stdbool.h>
#include <sys/socket.h>

/* The result of name_address(): text, as a value that is not to be freed. */
struct address_name {
    char text[80];
};

/*
 * Returns an IPv4 or IPv6 address with its port as people write it, in
 * numbers: "127.0.0.1:65432", "[::1]:65432" (RFC 3986 has the brackets). An
 * IPv4 peer of an IPv6 socket, "::ffff:127.0.0.1" (RFC 4291, 2.5.5.2), is
 * named by its IPv4 address. Never asks a name server, so it never waits.
 */
struct address_name name_address(const struct sockaddr *address, socklen_t len);

/*
 * Returns the addresses that host and port stand for, in the order in which
 * they should be tried, for freeaddrinfo(); dies if there is none. flags are
 * those of getaddrinfo(): AI_PASSIVE for a server.
 */
struct addrinfo *resolve(const char *host, const char *port, int flags);

/*
 * Returns a socket that listens on the first address of host that works, and
 * prints "Listening on " and this address, also with -q, for scripts wait for
 * it. The socket is close-on-exec, and blocks as yet. Dies if it cannot.
 */
int start_listening(const char *host, const char *port);

/*
 * Returns the connection of the next client in the queue of a listener that
 * does not block, and its name in *peer; the connection is close-on-exec. Or
 * returns -1: with EAGAIN if nobody waits, or nobody who is still there; with
 * any other errno, such as EMFILE, if something is lacking, and then the same
 * call would fail again at once: try later. Dies of what is no socket.
 */
int accept_connection(int listener, struct address_name *peer);

/* setsockopt() for the many options that are an int. Returns false and errno
 * if it fails. */
bool set_socket_option(int fd, int level, int name, int value);

/* Lets this program open as many descriptors as its hard limit allows: see
 * "ulimit -Hn". */
void raise_descriptor_limit(void);

#endif

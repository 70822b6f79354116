/*
 * net: small services around the socket calls, for all stages.
 */
#ifndef COMMON_NET_H
#define COMMON_NET_H

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

#endif

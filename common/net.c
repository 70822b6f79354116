/* net: see net.h for what each function promises. */
#include "net.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* If address is an IPv4 address in IPv6 clothes, puts the plain one into
 * *plain and returns 1. */
static int undress(const struct sockaddr *address, struct sockaddr_in *plain)
{
    struct sockaddr_in6 v6;

    if (address->sa_family != AF_INET6)
        return 0;
    memcpy(&v6, address, sizeof v6);
    if (!IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
        return 0;
    memset(plain, 0, sizeof *plain);
    plain->sin_family = AF_INET;
    plain->sin_port = v6.sin6_port;
    memcpy(&plain->sin_addr, v6.sin6_addr.s6_addr + 12, 4);
    return 1;
}

struct address_name name_address(const struct sockaddr *address, socklen_t len)
{
    struct sockaddr_in plain;
    struct address_name name = {"unknown address"};
    char host[64], port[8];

    if (undress(address, &plain)) {
        address = (const struct sockaddr *)&plain;
        len = sizeof plain;
    }
    if (getnameinfo(address, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(name.text, sizeof name.text,
                 address->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
                 port);
    return name;
}

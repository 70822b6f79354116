/* net: see net.h for what each function promises. */
#include "net.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

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

/*
 * echo-once: a TCP server as small as it can be. It waits for one client on
 * 127.0.0.1 port 65432, sends back whatever the client sends, and ends when
 * the client has finished. Read main() from its first line to its last.
 *
 * It takes no arguments. It does not promise to serve a second client, IPv6 or
 * other ports, to end by itself when a client stays silent, or to tidy up when
 * a signal ends it. What it does, it checks: that each call did what it is
 * there for, and that each byte is sent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "echo-once: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

/* Prints one line "WHAT 127.0.0.1:65432", at once, even into a pipe. */
static void say(const char *what, const struct sockaddr_in *address)
{
    char host[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &address->sin_addr, host, sizeof host);
    if (printf("%s %s:%d\n", what, host, ntohs(address->sin_port)) < 0 ||
        fflush(stdout) == EOF)
        die("standard output");
}

/* Were one of 0, 1 and 2 closed, a socket would get its number, and the
 * client what we print. */
static void open_standard_descriptors(void)
{
    int fd;

    while ((fd = open("/dev/null", O_RDWR)) <= STDERR_FILENO)
        if (fd < 0)
            die("/dev/null");
    close(fd);
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    const int on = 1;
    char buf[4096];
    ssize_t received;

    open_standard_descriptors();
    signal(SIGPIPE, SIG_IGN); /* a client that is gone: an error, no signal */

    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0)
        die("socket");
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        die("setsockopt");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(65432);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
        die("bind to 127.0.0.1:65432");
    if (listen(listener, 1) < 0)
        die("listen");
    say("Listening on", &address);

    int client = accept(listener, (struct sockaddr *)&address, &len);
    if (client < 0)
        die("accept");
    say("Connected by", &address);

    while ((received = recv(client, buf, sizeof buf, 0)) > 0) {
        ssize_t sent = 0;
        while (sent < received) {
            ssize_t n = send(client, buf + sent, (size_t)(received - sent), 0);
            if (n < 0)
                die("send");
            sent += n;
        }
    }
    if (received < 0)
        die("recv");

    say("Closing connection to", &address);
    close(client);
    close(listener);
    return 0;
}

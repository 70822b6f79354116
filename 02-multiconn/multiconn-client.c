/*
 * multiconn-client: opens many connections at a time, sends the same messages
 * on each, and checks every echo. It waits for all of them and for none: even
 * connect() is only begun, and pselect() says when it has ended. Read main()
 * at the end first, then take_turn(), then, upwards, what it calls.
 *
 * A connection that fails is said in one line, and the others go on.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "../common/deadline.h" /* now_ms() */
#include "../common/net.h"      /* resolve(), name_address() */
#include "../common/options.h"  /* parse_options(), parse_argument() … */
#include "../common/report.h"   /* die(), warn(), narrate(), narrate_bytes() */

enum state { CONNECTING, TALKING, FINISHED };

struct connection {
    enum state state;
    int number; /* from 1 */
    int fd;
    const struct addrinfo *address; /* the one that is tried */
    size_t sent, received;          /* bytes of the script, so far */
    const char *const *next;        /* the message after the present one, */
    size_t end;                     /* which ends here in the script */
    long long progress;             /* when something last happened */
};

struct client {
    struct connection *connections;
    int count, failed;
    long timeout_ms;
    const char *const *messages; /* the last is NULL */
    char *script;  /* all messages, one after the other: the echo, too */
    size_t length; /* of the script */
};

static void start(struct client *client, struct connection *connection);

/* Ends an attempt to connect, and tries the next address; ends a connection
 * that has no other, or that stood already, with a line that says why. */
static void fail(struct client *client, struct connection *connection,
                 const char *why)
{
    const struct addrinfo *to = connection->address;

    if (connection->fd >= 0)
        close(connection->fd);
    if (connection->state == CONNECTING && to->ai_next != NULL) {
        connection->address = to->ai_next;
        start(client, connection);
        return;
    }
    connection->state = FINISHED;
    client->failed++;
    warn("connection %d to %s: %s, got %zu of %zu bytes", connection->number,
         name_address(to->ai_addr, to->ai_addrlen).text, why,
         connection->received, client->length);
}

/* Begins to connect to connection->address. EINPROGRESS is no failure: the
 * handshake has begun, and goes on without us. */
static void start(struct client *client, struct connection *connection)
{
    const struct addrinfo *to = connection->address;
    int fd;

    narrate("Starting connection %d to %s", connection->number,
            name_address(to->ai_addr, to->ai_addrlen).text);
    fd = socket(to->ai_family, to->ai_socktype, 0);
    connection->fd = fd;
    connection->progress = now_ms();
    if (fd >= FD_SETSIZE)
        fail(client, connection, "descriptor too high for select()");
    else if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
             fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
             (connect(fd, to->ai_addr, to->ai_addrlen) < 0 &&
              errno != EINPROGRESS && errno != EINTR))
        fail(client, connection, strerror(errno));
}

/* When all has come back, we say that we have finished; the server may then
 * only do the same. (After a reset, shutdown() fails, and recv() says why.) */
static void finish_if_complete(const struct client *client,
                               const struct connection *connection)
{
    if (connection->received == client->length)
        shutdown(connection->fd, SHUT_WR);
}

/* The socket is writable: connect() has ended, and SO_ERROR says how. From
 * here on, these functions return NULL, or why the connection fails. */
static const char *end_connect(struct client *client,
                               struct connection *connection)
{
    int error;
    socklen_t len = sizeof error;

    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error != 0)
        return strerror(error);
    connection->state = TALKING;
    finish_if_complete(client, connection); /* there may be nothing to say */
    return NULL;
}

/* Returns NULL, so that the call is made again when the socket is ready, or
 * the text of errno. */
static const char *unless_it_must_wait(void)
{
    if (errno == EAGAIN || errno == EINTR)
        return NULL;
    return strerror(errno);
}

/* Sends what is left of one message, as far as the kernel takes it. */
static const char *speak(struct client *client, struct connection *connection)
{
    const char *message;
    ssize_t n;

    while (connection->end == connection->sent) /* past empty ones, too */
        connection->end += strlen(*connection->next++);
    message = connection->next[-1];
    n = send(connection->fd, client->script + connection->sent,
             connection->end - connection->sent, 0);
    if (n < 0)
        return unless_it_must_wait();
    if (connection->sent + strlen(message) == connection->end)
        narrate_bytes("Sending", message, strlen(message), "to connection %d",
                      connection->number);
    connection->sent += (size_t)n;
    return NULL;
}

/* Receives once, and compares. */
static const char *hear(struct client *client, struct connection *connection)
{
    char buf[16384];
    ssize_t n = recv(connection->fd, buf, sizeof buf, 0);

    if (n < 0)
        return unless_it_must_wait();
    if (n == 0 && connection->received < client->length)
        return "connection closed early";
    if (n == 0) {
        narrate("Closing connection %d", connection->number);
        connection->state = FINISHED;
        close(connection->fd);
        return NULL;
    }
    narrate_bytes("Received", buf, (size_t)n, "from connection %d",
                  connection->number);
    if ((size_t)n > connection->sent - connection->received)
        return "more than was sent";
    if (memcmp(buf, client->script + connection->received, (size_t)n) != 0)
        return "not what was sent";
    connection->received += (size_t)n;
    finish_if_complete(client, connection);
    return NULL;
}

/* What a connection waits for: the end of connect(), or bytes, and, while it
 * has something to say, room for them. Returns how long it may wait. */
static long watch(const struct client *client,
                  const struct connection *connection, fd_set *readable,
                  fd_set *writable)
{
    long left =
        (long)(connection->progress + client->timeout_ms + 1 - now_ms());

    if (connection->state == TALKING)
        FD_SET(connection->fd, readable);
    if (connection->state == CONNECTING || connection->sent < client->length)
        FD_SET(connection->fd, writable);
    return left > 0 ? left : 0;
}

/* Moves one connection on, after the wait. */
static void serve(struct client *client, struct connection *connection,
                  const fd_set *readable, const fd_set *writable)
{
    long long now = now_ms();
    const char *why = NULL;

    if (FD_ISSET(connection->fd, readable))
        why = hear(client, connection);
    else if (FD_ISSET(connection->fd, writable))
        why = connection->state == CONNECTING ? end_connect(client, connection)
                                              : speak(client, connection);
    else if (now - connection->progress > client->timeout_ms)
        why = strerror(ETIMEDOUT);
    else
        return;
    connection->progress = now;
    if (why != NULL)
        fail(client, connection, why);
}

/* Waits until a connection is ready, and serves each that is. Returns false
 * when all have finished. */
static bool take_turn(struct client *client)
{
    fd_set readable, writable;
    int highest = -1;
    long ms = client->timeout_ms;

    FD_ZERO(&readable);
    FD_ZERO(&writable);
    for (int i = 0; i < client->count; i++) {
        struct connection *connection = &client->connections[i];

        if (connection->state == FINISHED)
            continue;
        long left = watch(client, connection, &readable, &writable);
        ms = left < ms ? left : ms;
        highest = connection->fd > highest ? connection->fd : highest;
    }
    if (highest < 0)
        return false;

    const struct timespec longest = {.tv_sec = ms / 1000,
                                     .tv_nsec = ms % 1000 * 1000000};
    int n = pselect(highest + 1, &readable, &writable, NULL, &longest, NULL);
    if (n < 0 && errno != EINTR)
        die("pselect: %s", strerror(errno));
    for (int i = 0; n >= 0 && i < client->count; i++)
        if (client->connections[i].state != FINISHED)
            serve(client, &client->connections[i], &readable, &writable);
    return true;
}

/* Joins the messages to what is sent on each connection. */
static void write_script(struct client *client)
{
    size_t at = 0;

    for (const char *const *message = client->messages; *message != NULL;
         message++)
        client->length += strlen(*message);
    client->script = malloc(client->length + 1); /* malloc(0) may be NULL */
    if (client->script == NULL)
        die("messages: %s", strerror(errno));
    for (const char *const *message = client->messages; *message != NULL;
         message++) {
        memcpy(client->script + at, *message, strlen(*message));
        at += strlen(*message);
    }
}

int main(int argc, char **argv)
{
    static const char *const two[] = {"Message 1 from client.",
                                      "Message 2 from client.", NULL};
    struct options options = {
        .arguments = "HOST PORT CONNECTIONS [MESSAGE...]",
        .purpose = "Opens CONNECTIONS, sends each MESSAGE on all, and checks "
                   "what comes back.",
        .least_arguments = 3,
        .most_arguments = -1,
    };

    signal(SIGPIPE, SIG_IGN);
    parse_options(&options, argc, argv);

    struct client client = {
        .count = (int)parse_argument(&options, "connections", options.rest[0],
                                     1, 1000000),
        .timeout_ms = options.timeout_ms,
        .messages = two,
    };
    if (options.rest[1] != NULL)
        client.messages = (const char *const *)options.rest + 1;
    struct addrinfo *list = resolve(options.host, options.port, 0);
    write_script(&client);
    client.connections =
        calloc((size_t)client.count, sizeof *client.connections);
    if (client.connections == NULL)
        die("connections: %s", strerror(errno));
    for (int i = 0; i < client.count; i++) {
        client.connections[i].number = i + 1;
        client.connections[i].address = list;
        client.connections[i].next = client.messages;
        start(&client, &client.connections[i]);
    }
    while (take_turn(&client))
        ;
    free(client.connections);
    free(client.script);
    freeaddrinfo(list);
    if (client.failed > 0)
        die("%d of %d connections failed", client.failed, client.count);
    return EXIT_SUCCESS;
}

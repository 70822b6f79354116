/*
 * client-test: the unit tests of client.[ch] and request.[ch], over a channel
 * that gives and takes a byte at a time and asks to wait for either direction,
 * as TLS may. The server is a process of the test's own. The table at the end
 * names them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../03-app-protocol/answer.h"  /* answer() */
#include "../../03-app-protocol/client.h"  /* client_ask() … */
#include "../../03-app-protocol/request.h" /* request_from_line() */
#include "../../common/net.h"              /* resolve() */
#include "check.h"

#define SEARCH "{\"action\": \"search\", \"value\": \"ring\"}"

static const struct message search = {
    .byteorder = BIG,
    .content_type = "text/json",
    .content_encoding = "utf-8",
    .content = (const unsigned char *)SEARCH,
    .content_length = sizeof SEARCH - 1,
};

/* --- The server ----------------------------------------------------------- */

/* Says of how many bytes of the n-th response on this listener are sent,
 * whether the connection goes on, unless that was a part, and how many seconds
 * are thought about it. */
struct manner {
    size_t (*sent)(int n, size_t len);
    bool goes_on;
    unsigned thinks_s;
};

/* Answers one request. Returns false at the end of the connection. */
static bool answer_one(int peer, const struct manner *manner, int n)
{
    struct buffer input = {NULL, 0, 0, 0}, output = {NULL, 0, 0, 0};
    struct decoder decoder;
    unsigned char byte;
    char error[256];
    bool good = false, whole = false;

    decoder_start(&decoder, MOST_CONTENT);
    while (!good && recv(peer, &byte, 1, 0) == 1) {
        CHECK(buffer_append(&input, &byte, 1));
        good =
            decode(&decoder, buffer_head(&input), input.len) == DECODE_MESSAGE;
    }
    if (good) {
        size_t sent;

        CHECK(answer(&decoder.message, &output, error, sizeof error));
        sleep(manner->thinks_s);
        sent = manner->sent(n, output.len);
        CHECK(send(peer, buffer_head(&output), sent, MSG_NOSIGNAL) ==
              (ssize_t)sent);
        whole = sent == output.len;
    }
    decoder_next(&decoder);
    buffer_clear(&input);
    buffer_clear(&output);
    return whole && manner->goes_on;
}

struct server {
    pid_t process;
    struct addrinfo *addresses;
};

static struct server start_server(const struct manner *manner)
{
    struct server server;
    struct addrinfo *any = resolve("127.0.0.1", "0", 0);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    char port[20];
    const char *colon;

    CHECK(listener >= 0);
    CHECK(bind(listener, any->ai_addr, any->ai_addrlen) == 0);
    CHECK(listen(listener, 100) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    colon =
        strrchr(name_address((const struct sockaddr *)&address, len).text, ':');
    snprintf(port, sizeof port, "%s", colon + 1);
    server.addresses = resolve("127.0.0.1", port, 0);
    server.process = fork();
    CHECK(server.process >= 0);
    if (server.process == 0) {
        alarm(60); /* in case that the test dies */
        for (int n = 0;;) {
            int peer = accept(listener, NULL, NULL);

            CHECK(peer >= 0);
            while (answer_one(peer, manner, n++))
                ;
            close(peer);
        }
    }
    close(listener);
    freeaddrinfo(any);
    return server;
}

static void stop_server(struct server *server)
{
    kill(server->process, SIGKILL);
    waitpid(server->process, NULL, 0);
    freeaddrinfo(server->addresses);
}

static size_t send_all_of_it(int n, size_t len)
{
    (void)n;
    return len;
}

static size_t cut_the_second(int n, size_t len)
{
    return n == 1 ? 5 : len;
}

static size_t send_n_bytes(int n, size_t len)
{
    return (size_t)n < len ? (size_t)n : len;
}

/* --- The channel ---------------------------------------------------------- */

/* It asks to wait for writability, then for readability if there is something
 * to be read, and then gives or takes one byte, over TCP. */
static struct {
    const struct channel_calls *tcp;
    int step, closings;
} dribble;

static bool is_readable(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    return poll(&wait, 1, 0) == 1;
}

static enum io_status wanted(const struct channel *channel)
{
    int step = dribble.step++ % 3;

    if (step == 0)
        return IO_WANT_WRITE;
    return step == 1 && is_readable(channel->fd) ? IO_WANT_READ : IO_OK;
}

static enum io_status open_dribble(struct channel *channel)
{
    (void)channel;
    return dribble.step++ < 4 ? IO_WANT_WRITE : IO_OK;
}

static struct io read_dribble(struct channel *channel, void *bytes, size_t size)
{
    enum io_status status = is_readable(channel->fd) ? wanted(channel) : IO_OK;

    CHECK(size > 0);
    if (status != IO_OK)
        return (struct io){status, 0};
    return dribble.tcp->read(channel, bytes, 1);
}

static struct io write_dribble(struct channel *channel, const void *bytes,
                               size_t len)
{
    enum io_status status = wanted(channel);

    CHECK(len > 0);
    if (status != IO_OK)
        return (struct io){status, 0};
    return dribble.tcp->write(channel, bytes, 1);
}

static enum io_status close_write_dribble(struct channel *channel)
{
    if (dribble.closings++ == 0)
        return IO_WANT_WRITE;
    return dribble.tcp->close_write(channel);
}

static struct channel *make_dribble(int fd, void *context)
{
    static struct channel_calls calls;
    struct channel *channel = tcp_channels.make(fd, context);

    CHECK(channel != NULL);
    dribble.tcp = channel->calls;
    dribble.step = dribble.closings = 0;
    calls = *channel->calls;
    calls.open = open_dribble;
    calls.read = read_dribble;
    calls.write = write_dribble;
    calls.close_write = close_write_dribble;
    channel->calls = &calls;
    return channel;
}

static struct client new_client(const struct server *server)
{
    return (struct client){
        .channels = {.make = make_dribble},
        .addresses = server->addresses,
        .timeout_ms = 10000,
        .most_content = MOST_CONTENT,
    };
}

/* --- The tests ------------------------------------------------------------ */

static void check_response(const struct client *client)
{
    static const char wanted_content[] =
        "{\"result\": \"In the caves beneath the Misty Mountains. "
        "\xf0\x9f\x92\x8d\"}";
    const struct message *response = &client->decoder.message;

    CHECK_TEXT(response->content_type, "text/json");
    CHECK(response->content_length == sizeof wanted_content - 1);
    CHECK(memcmp(response->content, wanted_content, response->content_length) ==
          0);
}

static void dribbling(void)
{
    static const struct manner manner = {send_all_of_it, true, 0};
    struct server server = start_server(&manner);
    struct client client = new_client(&server);

    for (int i = 0; i < 20; i++) {
        CHECK(client_ask(&client, &search));
        check_response(&client);
    }
    if (!client_finish(&client))
        CHECK_TEXT(client.error, "");
    CHECK(client.ended && dribble.closings >= 2);
    client_close(&client);
    stop_server(&server);
}

static void server_that_closes(void)
{
    static const struct manner manner = {send_all_of_it, false, 0};
    struct server server = start_server(&manner);
    struct client client = new_client(&server);

    for (int i = 0; i < 20; i++) {
        if (i % 2 == 0)
            client.channels = tcp_channels;
        else
            client.channels.make = make_dribble;
        if (!client_ask(&client, &search))
            CHECK_TEXT(client.error, "");
        check_response(&client);
    }
    client_close(&client);
    stop_server(&server);
}

static void truncated(void)
{
    static const struct manner manner = {send_n_bytes, false, 0};
    struct server server = start_server(&manner);
    struct client client = new_client(&server);
    int cuts = 0;

    while (!client_ask(&client, &search)) {
        now_at("response cut at %d", cuts);
        CHECK(client.channel == NULL && client.input.len == 0);
        CHECK(strstr(client.error, ": truncated: the connection closed early"));
        cuts++;
    }
    check_response(&client);
    CHECK((size_t)cuts == decoder_length(&client.decoder));
    client_close(&client);
    stop_server(&server);
}

/* Closes its descriptor, as it promises, and opens another of its number. */
static struct channel *make_none(int fd, void *context)
{
    (void)context;
    close(fd);
    CHECK(open("/dev/null", O_RDONLY) == fd);
    *(int *)context = fd;
    return NULL;
}

static void no_channel(void)
{
    static const struct manner manner = {send_all_of_it, true, 0};
    struct server server = start_server(&manner);
    struct client client = new_client(&server);
    int fd = -1;

    client.channels = (struct channel_maker){make_none, &fd};
    CHECK(!client_ask(&client, &search));
    CHECK(strstr(client.error, "connect to 127.0.0.1:") != NULL);
    CHECK(strstr(client.error, strerror(ENOMEM)) != NULL);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) >= 0); /* a stranger's by now */
    close(fd);
    client_close(&client);
    stop_server(&server);
}

static void no_second_time(void)
{
    static const struct manner manner = {cut_the_second, true, 0};
    struct server server = start_server(&manner);
    struct client client = new_client(&server);

    CHECK(client_ask(&client, &search));
    CHECK(!client_ask(&client, &search));
    CHECK(strstr(client.error, ": truncated: the connection closed early"));
    client_close(&client);
    stop_server(&server);
}

/* Returns a listener that has as many clients as it may have, all of which are
 * made in *fillers: who comes now gets no answer. */
static int full_listener(int fillers[4])
{
    struct addrinfo *any = resolve("127.0.0.1", "0", 0);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_storage address;
    socklen_t len = sizeof address;

    CHECK(listener >= 0);
    CHECK(bind(listener, any->ai_addr, any->ai_addrlen) == 0);
    CHECK(listen(listener, 0) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    freeaddrinfo(any);
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(fcntl(fillers[i], F_SETFL, O_NONBLOCK) == 0);
        (void)connect(fillers[i], (struct sockaddr *)&address, len);
    }
    return listener;
}

/* The first address does not answer until the deadline; the second would. */
static void one_deadline(void)
{
    static const struct manner manner = {send_all_of_it, true, 0};
    struct server server = start_server(&manner);
    struct client client = new_client(&server);
    struct sockaddr_storage address;
    struct addrinfo first = *server.addresses;
    int fillers[4], listener = full_listener(fillers);

    first.ai_addr = (struct sockaddr *)&address;
    first.ai_addrlen = sizeof address;
    CHECK(getsockname(listener, first.ai_addr, &first.ai_addrlen) == 0);
    first.ai_next = server.addresses;
    client.channels = tcp_channels;
    client.addresses = &first;
    client.timeout_ms = 200;
    CHECK(!client_ask(&client, &search));
    CHECK(strstr(client.error, strerror(ETIMEDOUT)) != NULL);
    CHECK_TEXT(client.server.text, name_address(server.addresses->ai_addr,
                                                server.addresses->ai_addrlen)
                                       .text);
    client_close(&client);
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
    close(listener);
    stop_server(&server);
}

/* It takes 2 s to send anything, once. */
static struct io write_late(struct channel *channel, const void *bytes,
                            size_t len)
{
    sleep(2);
    return dribble.tcp->write(channel, bytes, len);
}

static struct channel *make_late(int fd, void *context)
{
    static struct channel_calls calls;
    struct channel *channel = tcp_channels.make(fd, context);

    CHECK(channel != NULL);
    dribble.tcp = channel->calls;
    calls = *channel->calls;
    calls.write = write_late;
    channel->calls = &calls;
    return channel;
}

/* Each takes two thirds of the time that it may. */
static void deadline_each(void)
{
    static const struct manner manner = {send_all_of_it, true, 2};
    struct server server = start_server(&manner);
    struct client client = new_client(&server);

    client.channels.make = make_late;
    client.timeout_ms = 3000;
    if (!client_ask(&client, &search))
        CHECK_TEXT(client.error, "");
    client_close(&client);
    stop_server(&server);
}

static void long_lines(void)
{
    static const char *const actions[] = {"hello", "search"};
    enum { LONG = 100000 };
    static char line[LONG + 1];

    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        struct request request;

        memset(line, 'x', LONG);
        for (size_t at = 20; at < LONG; at += 2)
            line[at] = ' ';
        memcpy(line, actions[i], strlen(actions[i]));
        line[strlen(actions[i])] = ' ';
        count_memory(0, false);
        CHECK(request_from_line(&request, line) == NULL);
        CHECK(request.message.content_length > LONG - 10);
        CHECK(memory_at_most() < 6 * (size_t)LONG);
        request_free(&request);
    }
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        {"a client asks over a channel that waits for the other direction",
         dribbling},
        {"a client connects anew to a server that closes after each response",
         server_that_closes},
        {"a response cut at any byte is truncated", truncated},
        {"a descriptor without a channel is closed once", no_channel},
        {"a request of whose response a part has come is not sent again",
         no_second_time},
        {"all addresses have one deadline together", one_deadline},
        {"sending and receiving have a deadline each", deadline_each},
        {"a line takes little more memory than its request", long_lines},
        {NULL, NULL},
    };

    signal(SIGPIPE, SIG_IGN);
    return run_tests(tests, argc, argv);
}

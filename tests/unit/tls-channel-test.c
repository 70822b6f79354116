/*
 * tls-channel-test: the unit tests of tls_channel.[ch]: what each call says
 * when TLS wants the other direction. The other side is OpenSSL on bytes in
 * memory, and the test moves these: so nothing comes or goes but when the test
 * lets it. $CERTS is the folder with the certificates. The table at the end
 * names the tests.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../04-tls/tls.h"
#include "../../04-tls/tls_channel.h"
#include "../../04-tls/tls_peer.h"
#include "check.h"

/* --- Two sides ------------------------------------------------------------ */

/* What we test is the server's side: a channel on one end of a socketpair. */
struct talk {
    SSL_CTX *server_context, *client_context;
    struct channel *channel;
    const struct channel_calls *calls;
    SSL *peer;
    BIO *comes, *goes; /* to the peer, and from it */
    int fd;            /* the other end */
    size_t plug;       /* bytes that fill the way to the peer */
};

static SSL_CTX *checked(SSL_CTX *context, const struct tls_error *error)
{
    CHECK_TEXT(error->text, "");
    CHECK(context != NULL);
    return context;
}

static struct talk new_talk(void)
{
    const char *folder = getenv("CERTS");
    char ca[300], cert[300], key[300];
    struct tls_error error = {""};
    struct talk talk = {.plug = 0};
    int fds[2];

    CHECK(folder != NULL);
    snprintf(ca, sizeof ca, "%s/ca.pem", folder);
    snprintf(cert, sizeof cert, "%s/server.pem", folder);
    snprintf(key, sizeof key, "%s/server-key.pem", folder);
    talk.server_context = checked(
        tls_server_context(&(struct tls_files){cert, key, NULL}, NULL, &error),
        &error);
    talk.client_context = checked(
        tls_client_context(&(struct tls_files){NULL, NULL, ca}, NULL, &error),
        &error);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(fcntl(fds[i], F_SETFL, O_NONBLOCK) == 0);
    talk.fd = fds[1];
    talk.channel = tls_make_accepting(fds[0], &talk.server_context);
    CHECK(talk.channel != NULL);
    talk.calls = talk.channel->calls;
    talk.peer = SSL_new(talk.client_context);
    CHECK(talk.peer != NULL && tls_expect(talk.peer, "localhost"));
    talk.comes = BIO_new(BIO_s_mem());
    talk.goes = BIO_new(BIO_s_mem());
    CHECK(talk.comes != NULL && talk.goes != NULL);
    BIO_set_mem_eof_return(talk.comes, -1); /* empty is not the end */
    SSL_set_bio(talk.peer, talk.comes, talk.goes);
    SSL_set_connect_state(talk.peer);
    return talk;
}

static void end_talk(struct talk *talk)
{
    talk->calls->free(talk->channel);
    SSL_free(talk->peer);
    SSL_CTX_free(talk->server_context);
    SSL_CTX_free(talk->client_context);
    close(talk->fd);
}

/* --- What goes between them ----------------------------------------------- */

static bool ready(const struct talk *talk, short events)
{
    struct pollfd wait = {.fd = talk->channel->fd, .events = events};

    return poll(&wait, 1, 0) == 1;
}

/* Lets at most size bytes of what the peer has said go to the channel. Returns
 * how many there were. */
static size_t deliver(struct talk *talk, size_t size)
{
    unsigned char buf[65536];
    int n =
        BIO_read(talk->goes, buf, (int)(size < sizeof buf ? size : sizeof buf));

    if (n <= 0)
        return 0;
    CHECK(send(talk->fd, buf, (size_t)n, MSG_NOSIGNAL) == n);
    return (size_t)n;
}

/* Lets what the channel has said go to the peer; what plugged the way is
 * nobody's. Returns how many bytes there were. */
static size_t fetch(struct talk *talk)
{
    unsigned char buf[65536];
    size_t all = 0;
    ssize_t n;

    while ((n = recv(talk->fd, buf, sizeof buf, 0)) > 0) {
        size_t junk = (size_t)n < talk->plug ? (size_t)n : talk->plug;

        talk->plug -= junk;
        CHECK(BIO_write(talk->comes, buf + junk, (int)((size_t)n - junk)) ==
                  (int)((size_t)n - junk) ||
              (size_t)n == junk);
        all += (size_t)n;
    }
    return all;
}

/* From here on the channel can send nothing, until fetch(). */
static void plug(struct talk *talk)
{
    static const unsigned char junk[512];
    size_t size = sizeof junk;
    ssize_t n;

    while (size > 0) {
        n = send(talk->channel->fd, junk, size, MSG_NOSIGNAL);
        if (n > 0)
            talk->plug += (size_t)n;
        else
            size /= 2;
    }
    CHECK(!ready(talk, POLLOUT));
}

static void shake_hands(struct talk *talk)
{
    int result;

    do {
        result = SSL_do_handshake(talk->peer);
        deliver(talk, SIZE_MAX);
        talk->calls->open(talk->channel);
        fetch(talk);
    } while (result != 1);
    CHECK(talk->calls->open(talk->channel) == IO_OK);
}

/* The peer says so much, in records as large as can be. */
static void say(struct talk *talk, size_t len)
{
    unsigned char bytes[40000];
    size_t count;

    CHECK(len <= sizeof bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)(i % 251);
    for (size_t at = 0; at < len; at += count)
        CHECK(SSL_write_ex(talk->peer, bytes + at, len - at, &count) == 1);
}

/* What the peer has heard. Returns false if nothing more has come: a read that
 * met what is no data, as a session ticket, is made again. */
static bool hear(struct talk *talk, unsigned char *bytes, size_t size,
                 size_t *count)
{
    int tries = 10;

    while (SSL_read_ex(talk->peer, bytes, size, count) != 1)
        if (tries-- == 0)
            return false;
    return true;
}

/* --- Tests ---------------------------------------------------------------- */

/* Whoever waits for what the channel asks for gets on, and does not come back
 * for nothing. */
static void waits_for_what_is_not_there(void)
{
    struct talk talk = new_talk();
    enum io_status status;
    int plugged = 0;

    SSL_do_handshake(talk.peer);
    plug(&talk);
    while ((status = talk.calls->open(talk.channel)) != IO_OK) {
        CHECK(status == IO_WANT_READ || status == IO_WANT_WRITE);
        now_at("waiting to %s", status == IO_WANT_WRITE ? "write" : "read");
        CHECK(!ready(&talk, status == IO_WANT_WRITE ? POLLOUT : POLLIN));
        if (status == IO_WANT_WRITE) {
            plugged++;
            fetch(&talk);
        } else if (deliver(&talk, 1) == 0) {
            CHECK(fetch(&talk) > 0); /* else both wait for the other */
            SSL_do_handshake(talk.peer);
        }
    }
    now_at("%d waits to write", plugged);
    CHECK(plugged == 1);
    end_talk(&talk);
}

/* Reads size bytes at a time until so many have come, and never when neither
 * the descriptor nor the channel says that there is something. */
static void read_all(struct talk *talk, size_t size, size_t len)
{
    unsigned char buf[16384];
    size_t got = 0;

    deliver(talk, SIZE_MAX);
    while (got < len) {
        struct io io;

        now_at("reads of %zu bytes, after %zu of %zu", size, got, len);
        CHECK(ready(talk, POLLIN) || talk->calls->pending(talk->channel));
        io = talk->calls->read(talk->channel, buf, size);
        CHECK(io.status == IO_OK || io.status == IO_WANT_READ);
        got += io.count;
    }
    CHECK(!ready(talk, POLLIN) && !talk->calls->pending(talk->channel));
}

/* Records come together; a read takes fewer bytes than a record has. */
static void nothing_sleeps(void)
{
    static const size_t sizes[] = {1, 100, 4096, 16384};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct talk talk = new_talk();

        shake_hands(&talk);
        for (int n = 0; n < 50; n++)
            say(&talk, 10);
        read_all(&talk, sizes[i], 500);
        say(&talk, 40000);
        read_all(&talk, sizes[i], 40000);
        end_talk(&talk);
    }
}

/* Does a read take more from the kernel than the record that it gives? */
static bool takes_ahead(void)
{
    struct talk talk = new_talk();
    unsigned char buf[100];
    bool ahead;

    shake_hands(&talk);
    say(&talk, 5);
    say(&talk, 5);
    deliver(&talk, SIZE_MAX);
    CHECK(talk.calls->read(talk.channel, buf, sizeof buf).count == 5);
    ahead = !ready(&talk, POLLIN);
    end_talk(&talk);
    return ahead;
}

/* A peer that sends one new key after the other, and then something. */
static void one_record_a_turn(void)
{
    const char *what = takes_ahead() ? "a read, and what it took ahead,"
                                     : "a read of one record";
    struct talk talk = new_talk();
    unsigned char buf[100];

    shake_hands(&talk);
    for (int n = 0; n < 10; n++) {
        CHECK(SSL_key_update(talk.peer, SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
        CHECK(SSL_do_handshake(talk.peer) == 1);
    }
    say(&talk, 5);
    deliver(&talk, SIZE_MAX);
    for (int n = 0; n < 10; n++) {
        struct io io;

        CHECK(ready(&talk, POLLIN));
        io = talk.calls->read(talk.channel, buf, sizeof buf);
        now_at("%s gives %zu bytes from behind it", what, io.count);
        CHECK(io.status == IO_WANT_READ);
    }
    CHECK(talk.calls->read(talk.channel, buf, sizeof buf).count == 5);
    CHECK(!ready(&talk, POLLIN));
    end_talk(&talk);
}

/* What waits to be written was moved meanwhile, as realloc() does. */
static void a_write_from_another_place(void)
{
    enum { LEN = 100000 };
    struct talk talk = new_talk();
    unsigned char *old = malloc(LEN), *bytes = malloc(LEN), got[LEN] = {0};
    size_t sent = 0, received = 0, count;
    int waits = 0;

    CHECK(old != NULL && bytes != NULL);
    for (int i = 0; i < LEN; i++)
        old[i] = bytes[i] = (unsigned char)(i % 251);
    shake_hands(&talk);
    plug(&talk);
    while (received < LEN) {
        struct io io = {IO_OK, 0};

        if (sent < LEN)
            io = talk.calls->write(talk.channel, bytes + sent, LEN - sent);
        CHECK_TEXT(talk.channel->error, "");
        CHECK(io.status == IO_OK || io.status == IO_WANT_WRITE);
        sent += io.count;
        if (io.status == IO_OK && sent < LEN)
            continue;
        if (io.status == IO_WANT_WRITE) {
            unsigned char *moved = bytes;

            waits++;
            bytes = memcpy(old, moved, LEN);
            old = memset(moved, 'x', LEN);
        }
        fetch(&talk);
        while (hear(&talk, got + received, LEN - received, &count))
            received += count;
    }
    CHECK(waits > 0);
    CHECK(memcmp(got, bytes, LEN) == 0);
    free(old);
    free(bytes);
    end_talk(&talk);
}

/* One connection fails, and another, which waits for the rest of a record, is
 * asked next. */
static void errors_of_others(void)
{
    struct talk talk = new_talk(), other = new_talk();
    unsigned char buf[100];
    struct io io;

    shake_hands(&talk);
    CHECK(send(other.fd, "GET / HTTP/1.1\r\n\r\n", 18, 0) == 18);
    CHECK(other.calls->open(other.channel) == IO_ERROR);
    say(&talk, 5);
    deliver(&talk, 10);
    io = talk.calls->read(talk.channel, buf, sizeof buf);
    CHECK_TEXT(talk.channel->error, "");
    CHECK(io.status == IO_WANT_READ);
    deliver(&talk, SIZE_MAX);
    CHECK(talk.calls->read(talk.channel, buf, sizeof buf).status == IO_OK);
    end_talk(&talk);
    end_talk(&other);
}

/* The peer has said something, and takes nothing any more. */
static void words_of_one_who_is_gone(void)
{
    struct talk talk = new_talk();
    unsigned char buf[100];
    struct io io;

    shake_hands(&talk);
    say(&talk, 5);
    SSL_shutdown(talk.peer);
    deliver(&talk, SIZE_MAX);
    shutdown(talk.fd, SHUT_RDWR);
    CHECK(talk.calls->write(talk.channel, "hello", 5).status == IO_ERROR);
    CHECK_TEXT(talk.channel->error, strerror(EPIPE));
    io = talk.calls->read(talk.channel, buf, sizeof buf);
    now_at("a read with the error '%s'", talk.channel->error);
    CHECK(io.count == 5);
    CHECK(talk.calls->read(talk.channel, buf, sizeof buf).status == IO_END);
    end_talk(&talk);
}

/* The peer is told the end, and says more before it says its own. */
static void an_end_that_does_not_wait(void)
{
    struct talk talk = new_talk();
    unsigned char buf[100];
    size_t count;

    shake_hands(&talk);
    say(&talk, 5);
    deliver(&talk, SIZE_MAX);
    CHECK(talk.calls->close_write(talk.channel) == IO_OK);
    CHECK(talk.calls->close_write(talk.channel) == IO_OK);
    fetch(&talk);
    CHECK(!hear(&talk, buf, sizeof buf, &count));
    CHECK(SSL_get_shutdown(talk.peer) == SSL_RECEIVED_SHUTDOWN);
    now_at("the end is said, what came before is %s",
           ready(&talk, POLLIN) ? "there" : "taken already");
    CHECK(talk.calls->read(talk.channel, buf, sizeof buf).status == IO_OK);
    CHECK(talk.calls->read(talk.channel, buf, sizeof buf).status ==
          IO_WANT_READ);
    SSL_shutdown(talk.peer);
    deliver(&talk, SIZE_MAX);
    CHECK(talk.calls->read(talk.channel, buf, sizeof buf).status == IO_END);
    CHECK_TEXT(talk.channel->error, "");
    end_talk(&talk);
}

/* A ClientHello that would be 16 KiB long, in records of a byte. */
static void a_piece_a_byte(void)
{
    unsigned char record[] = {22, 3, 1, 0, 1, 0}, buf[1200];
    const unsigned char head[] = {1, 0, 0x40, 0};
    struct talk talk = new_talk();
    size_t len = 0;
    int turns = 0;

    for (size_t i = 0; i < sizeof buf / sizeof record; i++) {
        record[5] = i < sizeof head ? head[i] : 3;
        memcpy(buf + len, record, sizeof record);
        len += sizeof record;
    }
    CHECK(send(talk.fd, buf, len, MSG_NOSIGNAL) == (ssize_t)len);
    while (ready(&talk, POLLIN)) {
        CHECK(talk.calls->open(talk.channel) == IO_WANT_READ);
        turns++;
    }
    CHECK(turns > 4 && turns < 20); /* each record is read in two */
    end_talk(&talk);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        {"a handshake in many small pieces takes more than one turn",
         a_piece_a_byte},
        {"a handshake waits for what is not there, and for nothing else",
         waits_for_what_is_not_there},
        {"what has come is announced by the descriptor, or it is pending",
         nothing_sleeps},
        {"a read takes one record, also if it is no data", one_record_a_turn},
        {"what waits to be written may have moved when it is offered again",
         a_write_from_another_place},
        {"an error of one connection is not another's", errors_of_others},
        {"what has come can be read, though a write has failed",
         words_of_one_who_is_gone},
        {"the end is said once, and does not wait for the peer's",
         an_end_that_does_not_wait},
        {NULL, NULL},
    };

    signal(SIGPIPE, SIG_IGN);
    return run_tests(tests, argc, argv);
}

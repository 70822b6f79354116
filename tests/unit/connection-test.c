/*
 * connection-test: the unit tests of connection.[ch] over a channel that does
 * what the test says. The table at the end names them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../03-app-protocol/answer.h" /* answer_error() */
#include "../../common/report.h"          /* be_quiet() */
#include "../../common/selector.h"        /* SELECTOR_READ, SELECTOR_WRITE */
#include "check.h"
#include "script.h"

#define SEARCH "{\"action\": \"search\", \"value\": \"ring\"}"

static void put_search(struct buffer *buffer)
{
    put_good(buffer, "big", "text/json", "utf-8", SEARCH, strlen(SEARCH));
}

static void put_sum(struct buffer *buffer)
{
    put_good(buffer, "little", "binary/uint32-array", "binary",
             "\1\0\0\0\2\0\0\0", 8);
}

static void put_other(struct buffer *buffer, size_t len)
{
    static const char content[MOST_CONTENT];

    put_good(buffer, "big", "x", "y", content, len);
}

/* Three requests, and how it ends. */
enum end { GOOD, BAD_HEADER, BAD_CONTENT, IN_LENGTH, IN_HEADER, IN_CONTENT };

static struct buffer conversation(enum end end)
{
    struct buffer stream = {NULL, 0, 0, 0};

    put_search(&stream);
    put_sum(&stream);
    put_other(&stream, 3);
    switch (end) {
    case GOOD:
        break;
    case BAD_HEADER:
        put_message(&stream, "{\"byteorder\": 1}", SEARCH, 30);
        break;
    case BAD_CONTENT:
        put_good(&stream, "big", "binary/uint32-array", "", "abc", 3);
        put_search(&stream);
        break;
    case IN_LENGTH:
        CHECK(buffer_append(&stream, "\0", 1));
        break;
    case IN_HEADER:
        CHECK(buffer_append(&stream, "\0\3{}", 4));
        break;
    case IN_CONTENT:
        put_other(&stream, 5);
        buffer_truncate(&stream, stream.len - 1);
    }
    return stream;
}

/* Runs it to its end, and keeps what was written in *output. */
static void run_to_end(struct script *script, struct connection *connection,
                       struct buffer *output)
{
    script_run(script, connection);
    CHECK(connection->phase == ENDED);
    CHECK(connection->output.len == 0 && script->closed);
    buffer_clear(output);
    CHECK(
        buffer_append(output, buffer_head(&script->taken), script->taken.len));
    connection_free(connection);
}

static struct buffer whole_output(const struct buffer *stream)
{
    struct buffer output = {NULL, 0, 0, 0};
    struct script *script = script_new(buffer_head(stream), stream->len);

    run_to_end(script, script_connection(script, MOST_CONTENT), &output);
    CHECK(output.len > 400);
    return output;
}

static void check_same(const struct buffer *got, const struct buffer *wanted)
{
    CHECK(got->len == wanted->len);
    CHECK(memcmp(buffer_head(got), buffer_head(wanted), got->len) == 0);
}

static void every_cut(void)
{
    for (int end = GOOD; end <= IN_CONTENT; end++) {
        struct buffer stream = conversation((enum end)end);
        struct buffer wanted = whole_output(&stream), got = {NULL, 0, 0, 0};

        for (size_t cut = 0; cut <= stream.len; cut++) {
            struct script *script = script_new(buffer_head(&stream), cut);
            struct connection *connection =
                script_connection(script, MOST_CONTENT);

            now_at("end %d, cut at %zu", end, cut);
            script->finished = false;
            script_run(script, connection);
            CHECK(connection->phase != ENDED);
            script->sent = stream.len;
            script->finished = true;
            run_to_end(script, connection, &got);
            check_same(&got, &wanted);
        }
        buffer_clear(&stream);
        buffer_clear(&wanted);
        buffer_clear(&got);
    }
}

static void every_piece(void)
{
    for (int end = GOOD; end <= IN_CONTENT; end++) {
        struct buffer stream = conversation((enum end)end);
        struct buffer wanted = whole_output(&stream), got = {NULL, 0, 0, 0};

        for (size_t piece = 1; piece <= wanted.len + 1; piece++) {
            struct script *script =
                script_new(buffer_head(&stream), stream.len);

            now_at("end %d, %zu bytes at a time", end, piece);
            script->piece = piece;
            run_to_end(script, script_connection(script, MOST_CONTENT), &got);
            check_same(&got, &wanted);
        }
        buffer_clear(&stream);
        buffer_clear(&wanted);
        buffer_clear(&got);
    }
}

static void dancing(void)
{
    for (int end = GOOD; end <= IN_CONTENT; end++) {
        struct buffer stream = conversation((enum end)end);
        struct buffer wanted = whole_output(&stream), got = {NULL, 0, 0, 0};

        for (size_t piece = 1; piece < 70; piece++) {
            struct script *script =
                script_new(buffer_head(&stream), stream.len);

            now_at("end %d, %zu bytes at a time", end, piece);
            script->piece = piece;
            script->dances = true;
            run_to_end(script, script_connection(script, MOST_CONTENT), &got);
            check_same(&got, &wanted);
        }
        buffer_clear(&stream);
        buffer_clear(&wanted);
        buffer_clear(&got);
    }
}

static void pending_bytes(void)
{
    struct buffer stream = conversation(GOOD);
    struct buffer wanted = whole_output(&stream), got = {NULL, 0, 0, 0};

    for (size_t piece = 1; piece < stream.len; piece++) {
        struct script *script = script_new(buffer_head(&stream), stream.len);

        now_at("%zu bytes at a time", piece);
        script->piece = piece;
        script->hides = true;
        run_to_end(script, script_connection(script, MOST_CONTENT), &got);
        check_same(&got, &wanted);
    }
    buffer_clear(&stream);
    buffer_clear(&wanted);
    buffer_clear(&got);
}

/* --- Phases --------------------------------------------------------------- */

/* Advances once, and checks what it is then, and whether a phase began. */
#define ADVANCE(expected_phase, expected_began, expected_interest)             \
    do {                                                                       \
        connection_advance(connection);                                        \
        CHECK(connection->phase == (expected_phase));                          \
        CHECK(connection->phase_began == (expected_began));                    \
        CHECK(connection->phase == ENDED ||                                    \
              connection_interest(connection) == (expected_interest));         \
        connection->phase_began = false;                                       \
    } while (0)

static void phases(void)
{
    struct buffer stream = {NULL, 0, 0, 0};
    struct script *script;
    struct connection *connection;
    size_t first;

    put_search(&stream);
    first = stream.len;
    put_sum(&stream);
    script = script_new(buffer_head(&stream), 0);
    script->finished = false;
    connection = script_connection(script, MOST_CONTENT);
    CHECK(connection->phase == HANDSHAKE && connection->phase_began);
    connection->phase_began = false;

    script->dances = true;
    ADVANCE(HANDSHAKE, false, SELECTOR_WRITE);
    ADVANCE(HANDSHAKE, false, SELECTOR_READ);
    ADVANCE(IDLE, true, SELECTOR_READ);
    script->dances = false;
    ADVANCE(IDLE, false, SELECTOR_READ); /* woken for nothing */

    script->sent = 1;
    ADVANCE(REQUEST, true, SELECTOR_READ);
    for (script->sent = 2; script->sent < first; script->sent++)
        ADVANCE(REQUEST, false, SELECTOR_READ);
    CHECK(script->writes == 0);

    script->room = 0; /* the client does not take its response */
    ADVANCE(RESPONSE, true, SELECTOR_WRITE);
    script->sent = stream.len - 1;
    for (int i = 0; i < 9; i++) {
        int reads = script->reads;

        script->room = 1;
        ADVANCE(RESPONSE, false, SELECTOR_WRITE);
        CHECK(script->reads == reads); /* that is the backpressure */
    }

    script->room = (size_t)-1; /* the last byte, and then the next request */
    connection_advance(connection);
    CHECK(connection->phase == REQUEST && connection->phase_began);
    connection->phase_began = false;
    ADVANCE(REQUEST, false, SELECTOR_READ);
    script->sent = stream.len;
    ADVANCE(IDLE, true, SELECTOR_READ);
    ADVANCE(IDLE, false, SELECTOR_READ);
    script->finished = true;
    ADVANCE(ENDED, true, 0);
    CHECK(script->closed && connection->reason[0] == '\0');
    connection_free(connection);
    buffer_clear(&stream);
}

static void pipelined_phases(void)
{
    struct buffer stream = {NULL, 0, 0, 0};
    struct script *script;
    struct connection *connection;

    put_sum(&stream);
    put_sum(&stream);
    put_sum(&stream);
    CHECK(buffer_append(&stream, "\0", 1));
    script = script_new(buffer_head(&stream), stream.len);
    script->finished = false;
    connection = script_connection(script, MOST_CONTENT);

    /* One answer a turn; the next request is announced by writability. */
    ADVANCE(RESPONSE, true, SELECTOR_WRITE);
    CHECK(script->reads == 1 && script->writes == 1);
    ADVANCE(RESPONSE, true, SELECTOR_WRITE);
    CHECK(script->reads == 1 && script->writes == 2);
    ADVANCE(REQUEST, true, SELECTOR_READ);
    CHECK(script->reads == 1 && script->writes == 3);
    ADVANCE(REQUEST, false, SELECTOR_READ);
    CHECK(script->reads == 2 && script->writes == 3);
    connection_free(connection);
    buffer_clear(&stream);
}

/* Not quite 5 KiB of JSON, but with its header a bit more, which costs this
 * many turns. */
enum { TURNS = 5 * 16 };

static void put_costly(struct buffer *buffer, const char *json)
{
    char content[5100];

    memset(content, ' ', sizeof content);
    content[snprintf(content, sizeof content, "%s", json)] = ' ';
    put_good(buffer, "little", "text/json", "utf-8", content, sizeof content);
}

/* So many turns go by, in which it neither reads nor writes. */
static void check_rest(const struct script *script,
                       struct connection *connection, int turns)
{
    int reads = script->reads, writes = script->writes;

    CHECK(connection->phase == RESTING);
    CHECK(connection_interest(connection) == SELECTOR_WRITE);
    connection->phase_began = false;
    for (int turn = 1; turn < turns; turn++)
        ADVANCE(RESTING, false, SELECTOR_WRITE);
    ADVANCE(RESPONSE, true, SELECTOR_WRITE); /* it is due */
    CHECK(script->reads == reads && script->writes == writes);
}

/* A connection that has got so many bytes of the stream, and no end. */
static struct connection *begun(struct script **script,
                                const struct buffer *stream, size_t len)
{
    struct connection *connection;

    *script = script_new(buffer_head(stream), len);
    (*script)->finished = false;
    connection = script_connection(*script, MOST_CONTENT);
    script_run(*script, connection);
    return connection;
}

/* One that has read once: all of the stream, or 16 KiB of it. */
static struct connection *arrived(struct script **script,
                                  const struct buffer *stream)
{
    struct connection *connection;

    *script = script_new(buffer_head(stream), stream->len);
    (*script)->finished = false;
    connection = script_connection(*script, MOST_CONTENT);
    connection_advance(connection);
    CHECK((*script)->reads == 1);
    return connection;
}

static void rests(void)
{
    struct buffer stream = {NULL, 0, 0, 0};
    struct script *script;
    struct connection *connection;

    put_costly(&stream, "{\"action\": \"x\"}");
    put_costly(&stream, "{\"action\": \"x\"}");
    put_sum(&stream);
    connection = arrived(&script, &stream);
    CHECK(script->writes == 0);
    check_rest(script, connection, TURNS); /* on a fresh connection, too */
    ADVANCE(RESTING, true, SELECTOR_WRITE);
    CHECK(script->writes == 1);
    check_rest(script, connection, TURNS);
    ADVANCE(RESPONSE, true, SELECTOR_WRITE); /* the next costs nothing */
    CHECK(script->writes == 2);
    ADVANCE(IDLE, true, SELECTOR_READ);
    CHECK(script->writes == 3);
    connection_free(connection);
    buffer_clear(&stream);
}

/* The last response must be {"error": error}. */
static void check_error_sent(const struct script *script, const char *error)
{
    struct buffer wanted = {NULL, 0, 0, 0};

    CHECK(answer_error(error, &wanted));
    CHECK(script->taken.len >= wanted.len);
    CHECK(memcmp(buffer_head(&script->taken) + script->taken.len - wanted.len,
                 buffer_head(&wanted), wanted.len) == 0);
    buffer_clear(&wanted);
}

/* Whatever breaks a rule was parsed, too, up to there. */
static void refused_rests(void)
{
    static char header[10001];
    static const int turns[] = {TURNS, 9 * 16, 8 * 16};
    struct buffer streams[3] = {{NULL, 0, 0, 0}};
    static const char *const wanted[] = {
        "content: action is missing, or not a string",
        "header: byteorder is missing",
        "end of stream inside the content",
    };
    struct script *script;
    struct connection *connection;

    put_costly(&streams[0], "{}");
    memset(header, ' ', sizeof header - 1);
    header[0] = '{';
    header[1] = '}';
    put_message(&streams[1], header, "", 0);
    snprintf(header + 9000, sizeof header - 9000,
             "{\"byteorder\": \"big\", \"content-type\": \"\", "
             "\"content-encoding\": \"\", \"content-length\": 2}");
    memset(header, ' ', 2);
    put_message(&streams[2], header, "x", 1);
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        now_at("%s", wanted[i]);
        connection = arrived(&script, &streams[i]);
        if (i == 2) {
            CHECK(connection->phase == REQUEST);
            script->finished = true;
            connection_advance(connection);
        }
        check_rest(script, connection, turns[i]);
        CHECK(script->writes == 0);
        connection_advance(connection);
        check_error_sent(script, wanted[i]);
        CHECK(connection->phase == (i == 2 ? ENDED : CLOSING));
        connection_free(connection);
        buffer_clear(&streams[i]);
    }

    CHECK(buffer_append(&streams[0], "\xff\xff{", 3)); /* not parsed at all */
    connection = begun(&script, &streams[0], 3);
    script->finished = true;
    connection_advance(connection);
    check_error_sent(script, "end of stream inside the header");
    connection_free(connection);
    buffer_clear(&streams[0]);
}

/* A rest ends by its own deadline with the answer, whose own begins then; and
 * with a server that stops, without. */
static void rest_ends(void)
{
    struct buffer stream = {NULL, 0, 0, 0};
    struct script *script;
    struct connection *connection;

    put_costly(&stream, "{\"action\": \"x\"}");
    put_costly(&stream, "{\"action\": \"x\"}");
    connection = arrived(&script, &stream);
    CHECK(connection->phase == RESTING && connection->phase_began);
    connection->phase_began = false;
    connection_expire(connection, 2);
    CHECK(connection->phase == RESPONSE && connection->phase_began);
    CHECK(connection_interest(connection) == SELECTOR_WRITE);
    CHECK(script->writes == 0); /* not before it can be taken */
    ADVANCE(RESTING, true, SELECTOR_WRITE);
    CHECK(script->writes == 1); /* and the next one rests anew */
    connection_expire(connection, 2);
    script->room = 7;
    ADVANCE(RESPONSE, true, SELECTOR_WRITE);
    connection_expire(connection, 60);
    CHECK(connection->phase == ENDED);
    CHECK_TEXT(connection->reason, "response not taken after 60 s");
    connection_free(connection);

    connection = arrived(&script, &stream);
    connection_stop(connection);
    CHECK(connection->phase == CLOSING && script->closed);
    CHECK(connection_interest(connection) == SELECTOR_READ);
    script->finished = true;
    script_run(script, connection);
    CHECK(connection->phase == ENDED && script->writes == 0);
    CHECK_TEXT(connection->reason, "the server stops");
    connection_free(connection);
    buffer_clear(&stream);
}

static void end_inside(void)
{
    static const char *const wanted[] = {
        [GOOD] = "",
        [BAD_HEADER] = "header: byteorder is not a string",
        [BAD_CONTENT] = "content: its length is no multiple of 4",
        [IN_LENGTH] = "end of stream inside the length",
        [IN_HEADER] = "end of stream inside the header",
        [IN_CONTENT] = "end of stream inside the content",
    };

    for (int end = GOOD; end <= IN_CONTENT; end++) {
        struct buffer stream = conversation((enum end)end);
        struct script *script = script_new(buffer_head(&stream), stream.len);
        struct connection *connection = script_connection(script, MOST_CONTENT);

        script_run(script, connection);
        CHECK(connection->phase == ENDED);
        CHECK_TEXT(connection->reason, wanted[end]);
        if (end != GOOD)
            check_error_sent(script, wanted[end]);
        connection_free(connection);
        buffer_clear(&stream);
    }
}

static void deadlines(void)
{
    static const char late[] = "request not complete after 1.5 s";
    struct buffer stream = conversation(GOOD);
    struct script *script = script_new(NULL, 0);
    struct connection *connection = script_connection(script, MOST_CONTENT);

    connection_expire(connection, 60);
    CHECK(connection->phase == ENDED);
    CHECK_TEXT(connection->reason, "handshake not complete after 60 s");
    connection_free(connection);

    connection = begun(&script, &stream, 0);
    connection_expire(connection, 60);
    CHECK(connection->phase == ENDED && script->taken.len == 0);
    CHECK_TEXT(connection->reason, "no request after 60 s");
    connection_free(connection);

    connection = begun(&script, &stream, 1);
    connection_expire(connection, 1.5);
    CHECK(connection->phase == CLOSING && connection->phase_began);
    CHECK(connection_interest(connection) == SELECTOR_READ);
    CHECK_TEXT(connection->reason, late);
    check_error_sent(script, late);
    connection_expire(connection, 2);
    CHECK(connection->phase == ENDED);
    connection_free(connection);

    connection = begun(&script, &stream, 1); /* and it does not read */
    script->room = 0;
    connection_expire(connection, 1.5);
    CHECK(connection->phase == RESPONSE && connection->phase_began);
    CHECK(connection_interest(connection) == SELECTOR_WRITE);
    connection_expire(connection, 1.5);
    CHECK(connection->phase == ENDED && connection->output.len > 0);
    CHECK_TEXT(connection->reason, "request not complete after 1.5 s");
    connection_free(connection);
    buffer_clear(&stream);
}

static void lingering(void)
{
    static const unsigned char rest[3 << 20];
    struct buffer stream = {NULL, 0, 0, 0};
    struct script *script;
    struct connection *connection;

    CHECK(buffer_append(&stream, "\0\2[]", 4));
    CHECK(buffer_append(&stream, rest, sizeof rest));
    connection = begun(&script, &stream, 4);
    CHECK(connection->phase == CLOSING && script->closed);
    check_error_sent(script, "header: not an object");
    CHECK(connection->input.len == 0);
    script->sent = stream.len;
    script_run(script, connection);
    CHECK(connection->phase == ENDED);
    CHECK(script->read >= 1 << 20 && script->read < (1 << 20) + 40000);
    CHECK(connection->input.len == 0);
    connection_free(connection);

    connection = begun(&script, &stream, 4); /* and now it ends by itself */
    script->sent = 400;
    script_run(script, connection);
    CHECK(connection->phase == CLOSING);
    script->finished = true;
    script_run(script, connection);
    CHECK(connection->phase == ENDED && script->read == 400);
    connection_free(connection);

    connection = begun(&script, &stream, 4); /* or by a reset */
    script->read_fails = "Connection reset by peer";
    connection_advance(connection);
    CHECK(connection->phase == ENDED);
    connection_free(connection);
    buffer_clear(&stream);
}

static void failures(void)
{
    struct buffer stream = conversation(GOOD);
    struct script *script = script_new(buffer_head(&stream), stream.len);
    struct connection *connection = script_connection(script, MOST_CONTENT);
    bool freed = false;

    script->open_fails = "no handshake";
    connection_advance(
        connection); /* and reads on: it may have been told why */
    CHECK(connection->phase == CLOSING && script->closed);
    CHECK(connection->drained == stream.len);
    script_run(script, connection);
    CHECK(connection->phase == ENDED && script->writes == 0);
    CHECK_TEXT(connection->reason, "no handshake");
    connection_free(connection);

    connection = begun(&script, &stream, 10);
    script->read_fails = "Connection reset by peer";
    connection_advance(connection);
    CHECK(connection->phase == CLOSING && script->closed);
    script->finished = true;
    script_run(script, connection);
    CHECK(connection->phase == ENDED && script->writes == 0);
    CHECK_TEXT(connection->reason, "Connection reset by peer");
    connection_free(connection);

    connection = begun(&script, &stream, 10);
    script->sent = stream.len;
    script->write_fails = "Broken pipe";
    connection_advance(connection);
    CHECK(connection->phase == ENDED && script->writes == 1);
    CHECK_TEXT(connection->reason, "Broken pipe");
    script->freed = &freed;
    connection_free(connection);
    CHECK(freed);
    buffer_clear(&stream);
}

/* An end that was not polite: nobody is there who could be told. */
static void cuts(void)
{
    struct buffer stream = conversation(GOOD);
    struct script *script;
    struct connection *connection = begun(&script, &stream, 10);

    script->cut = script->finished = true;
    script_run(script, connection);
    CHECK(connection->phase == ENDED && script->writes == 0);
    CHECK_TEXT(connection->reason, "end of stream inside the header");
    connection_free(connection);

    connection = begun(&script, &stream, stream.len);
    script->cut = script->finished = true;
    script_run(script, connection);
    CHECK(connection->phase == ENDED && script->writes == 3);
    CHECK_TEXT(connection->reason, "cut");
    connection_free(connection);
    buffer_clear(&stream);
}

static void stopping(void)
{
    struct buffer stream = conversation(GOOD);
    struct script *script;
    struct connection *connection;

    connection = begun(&script, &stream, 0); /* who asks nothing goes at once */
    connection_stop(connection);
    CHECK(connection->phase == ENDED && script->closed && script->writes == 0);
    CHECK_TEXT(connection->reason, "the server stops");
    connection_free(connection);

    connection = begun(&script, &stream, 1); /* who asks may read on */
    connection_stop(connection);
    CHECK(connection->phase == CLOSING && script->closed);
    CHECK(connection_interest(connection) == SELECTOR_READ);
    script->finished = true;
    script_run(script, connection);
    CHECK(connection->phase == ENDED && script->writes == 0);
    CHECK_TEXT(connection->reason, "the server stops");
    connection_free(connection);

    connection = begun(&script, &stream, 0); /* what has come is read */
    script->sent = stream.len;
    connection_stop(connection);
    CHECK(connection->phase == CLOSING && connection->drained == stream.len);
    connection_free(connection);

    connection = begun(&script, &stream, 0); /* a response may go */
    script->room = 7;
    script->sent = stream.len;
    script_run(script, connection);
    CHECK(connection->phase == RESPONSE);
    connection_stop(connection);
    CHECK(connection->phase == RESPONSE);
    script->room = (size_t)-1;
    connection_advance(connection);
    CHECK(connection->phase == CLOSING && script->closed);
    CHECK(connection_interest(connection) == SELECTOR_READ); /* else it spins */
    script->finished = true;
    script_run(script, connection);
    CHECK(connection->phase == ENDED);
    CHECK(read_number(buffer_head(&script->taken), 2, BIG) + 2 <
          script->taken.len);
    connection_free(connection);
    buffer_clear(&stream);
}

/* --- Memory --------------------------------------------------------------- */

static void no_memory(void)
{
    static const struct address_name peer = {"a test"};
    long fail = 0;
    bool good;
    struct buffer stream = conversation(BAD_CONTENT);
    struct buffer wanted = whole_output(&stream);

    do {
        struct script *script;
        struct connection *connection;
        bool freed = false;

        now_at("allocation %ld", fail);
        count_memory(++fail, true);
        script = script_new(buffer_head(&stream), stream.len);
        script->freed = &freed;
        connection = connection_new(&script->channel, peer, MOST_CONTENT);
        good = connection != NULL;
        if (good) {
            script_run(script, connection);
            CHECK(connection->phase == ENDED);
            good = allocations() < fail;
            if (good)
                check_same(&script->taken, &wanted);
            connection_free(connection);
        }
        CHECK(freed && memory_left() == 0);
    } while (!good);
    CHECK(fail > 50);
    count_memory(0, false);
    buffer_clear(&stream);
    buffer_clear(&wanted);
}

static void no_channel(void)
{
    CHECK(connection_new(NULL, (struct address_name){"a test"}, 1) == NULL);
}

static void idle_holds_little(void)
{
    struct buffer stream = {NULL, 0, 0, 0};
    struct script *script;
    struct connection *connection;
    size_t all;

    put_other(&stream, MOST_CONTENT);
    script = script_new(buffer_head(&stream), 0);
    script->finished = false;
    count_memory(0, false);
    connection = script_connection(script, MOST_CONTENT);
    script_run(script, connection);
    CHECK(memory_left() < 2000);
    script->sent = 300; /* a megabyte is announced, and does not come */
    script_run(script, connection);
    CHECK(memory_left() < 4000);
    script->sent = stream.len;
    script_run(script, connection);
    CHECK(connection->phase == IDLE);
    all = memory_at_most();
    CHECK(all > MOST_CONTENT && all / 4 < MOST_CONTENT);
    CHECK(memory_left() - (long)script->taken.len < 3000);
    connection_free(connection);
    buffer_clear(&stream);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        {"requests get the same bytes of answers wherever they are cut",
         every_cut},
        {"requests get the same answers in pieces of every size", every_piece},
        {"requests get the same answers over a channel that waits for the "
         "other direction",
         dancing},
        {"bytes that no readiness announces are read", pending_bytes},
        {"a phase begins with its first byte and with no other", phases},
        {"requests that came together have a turn each", pipelined_phases},
        {"who has sent long JSON leaves turns to the others first", rests},
        {"who is refused after long JSON has left turns to the others, too",
         refused_rests},
        {"a rest ends after a while with the answer, and without when the "
         "server stops",
         rest_ends},
        {"the end of a stream inside a message is told with its place",
         end_inside},
        {"a deadline ends each phase in its own way", deadlines},
        {"after an error a megabyte is read on, and no more", lingering},
        {"a channel that fails ends its connection only", failures},
        {"an end that is not polite is told, and answered by nothing", cuts},
        {"a server that stops lets a response go, and waits without spinning",
         stopping},
        {"a connection without memory ends and leaks nothing", no_memory},
        {"a connection without a channel is none", no_channel},
        {"an idle connection holds little, whatever is announced",
         idle_holds_little},
        {NULL, NULL},
    };

    be_quiet();
    report_as("connection-test");
    return run_tests(tests, argc, argv);
}

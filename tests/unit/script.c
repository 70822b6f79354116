/* script: see script.h for what each function promises. */
#include "script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/selector.h" /* SELECTOR_READ, SELECTOR_WRITE */
#include "check.h"

enum call { OPEN, READ, WRITE, CLOSE };

static struct script *script_of(struct channel *channel)
{
    return (struct script *)channel; /* which is its first member */
}

static struct io say(struct script *script, enum io_status status, size_t count)
{
    script->said = status;
    return (struct io){status, count};
}

/* One that dances asks to wait for the one, then for the other, then works. */
static bool dances(struct script *script, enum call call, struct io *io)
{
    int step = script->steps[call]++ % 3;

    if (!script->dances || step == 2)
        return false;
    *io = say(script, step == 0 ? IO_WANT_WRITE : IO_WANT_READ, 0);
    return true;
}

static struct io fails(struct script *script, const char *why)
{
    snprintf(script->channel.error, sizeof script->channel.error, "%s", why);
    return say(script, IO_ERROR, 0);
}

static enum io_status open_script(struct channel *channel)
{
    struct script *script = script_of(channel);
    struct io io;

    if (script->open_fails != NULL) {
        script->broken = true;
        return fails(script, script->open_fails).status;
    }
    if (dances(script, OPEN, &io))
        return io.status;
    return say(script, IO_OK, 0).status;
}

static size_t at_most(size_t a, size_t b)
{
    return a < b ? a : b;
}

static struct io read_script(struct channel *channel, void *bytes, size_t size)
{
    struct script *script = script_of(channel);
    size_t count =
        at_most(script->sent - script->read, at_most(size, script->piece));
    struct io io;

    script->reads++;
    if (script->read_fails != NULL && !script->broken) {
        script->broken = true;
        return fails(script, script->read_fails);
    }
    if (script->broken && count > 0) {
        script->read += count;
        return say(script, IO_WANT_READ, count); /* in vain */
    }
    if (count == 0 && script->cut) {
        script->broken = true;
        fails(script, "cut");
        return say(script, IO_END, 0);
    }
    if (count == 0)
        return say(script, script->finished ? IO_END : IO_WANT_READ, 0);
    if (dances(script, READ, &io))
        return io;
    memcpy(bytes, script->bytes + script->read, count);
    script->read += count;
    return say(script, IO_OK, count);
}

static struct io write_script(struct channel *channel, const void *bytes,
                              size_t len)
{
    struct script *script = script_of(channel);
    size_t count = at_most(script->room, at_most(len, script->piece));
    struct io io;

    script->writes++;
    CHECK(!script->closed && !script->broken && len > 0);
    if (script->write_fails != NULL)
        return fails(script, script->write_fails);
    if (count == 0)
        return say(script, IO_WANT_WRITE, 0);
    if (dances(script, WRITE, &io))
        return io;
    pause_memory(true);
    CHECK(buffer_append(&script->taken, bytes, count));
    pause_memory(false);
    script->room -= count;
    return say(script, IO_OK, count);
}

static enum io_status close_write_script(struct channel *channel)
{
    struct script *script = script_of(channel);
    struct io io;

    script->closings++;
    if (!script->closed && dances(script, CLOSE, &io))
        return io.status;
    script->closed = true;
    return say(script, IO_OK, 0).status;
}

static bool pending_script(const struct channel *channel)
{
    const struct script *script = (const struct script *)channel;

    return script->hides && script->read < script->sent;
}

static void free_script(struct channel *channel)
{
    struct script *script = script_of(channel);

    if (script->freed != NULL)
        *script->freed = true;
    buffer_clear(&script->taken);
    free(script);
}

struct script *script_new(const void *bytes, size_t len)
{
    static const struct channel_calls calls = {
        .open = open_script,
        .read = read_script,
        .write = write_script,
        .close_write = close_write_script,
        .pending = pending_script,
        .free = free_script,
    };
    struct script *script;

    pause_memory(true);
    script = calloc(1, sizeof *script);
    CHECK(script != NULL);
    pause_memory(false);
    *script = (struct script){
        .channel = {.calls = &calls, .fd = -1},
        .bytes = bytes,
        .sent = len,
        .finished = true,
        .piece = (size_t)-1,
        .room = (size_t)-1,
    };
    return script;
}

struct connection *script_connection(struct script *script, size_t most_content)
{
    const struct address_name peer = {"a test"};
    struct connection *connection =
        connection_new(&script->channel, peer, most_content);

    CHECK(connection != NULL);
    return connection;
}

/* Would the selector say that the connection is ready for what it waits for?
 * What a call has asked for in its dance comes at once. */
static bool is_ready(const struct script *script,
                     const struct connection *connection)
{
    int interest = connection_interest(connection);
    bool here = script->read < script->sent && !script->hides;
    int ready = (here || script->finished ? SELECTOR_READ : 0) |
                (script->room > 0 ? SELECTOR_WRITE : 0);

    CHECK(interest == SELECTOR_READ || interest == SELECTOR_WRITE);
    if (script->dances && script->said == IO_WANT_READ)
        ready |= SELECTOR_READ;
    if (script->said == IO_WANT_READ && connection->output.len > 0)
        CHECK(interest == SELECTOR_READ);
    if (script->said == IO_WANT_WRITE)
        CHECK(interest == SELECTOR_WRITE);
    return (interest & ready) != 0;
}

void script_run(struct script *script, struct connection *connection)
{
    size_t most = 100 + 16 * (script->sent + connection->output.len);

    if (script->steps[OPEN] == 0)
        connection_advance(connection); /* as soon as it is accepted */
    for (size_t turns = 0;
         connection->phase != ENDED && is_ready(script, connection); turns++) {
        int reads = script->reads, writes = script->writes;

        connection_advance(connection);
        CHECK(script->reads - reads <= 2 && script->writes - writes <= 2);
        CHECK(turns < most + 16 * script->taken.len);
    }
}

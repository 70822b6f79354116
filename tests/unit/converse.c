/*
 * converse: lets a server's connection speak without a network. Standard
 * input has any number of conversations: the length of what the client sends,
 * 4 bytes with the big end first, and this. Standard output gets, in the same
 * form, what the server sends until it closes. For differential.py.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../common/report.h" /* be_quiet() */
#include "check.h"
#include "script.h"

static void converse(const unsigned char *bytes, size_t len)
{
    struct script *script = script_new(bytes, len);
    struct connection *connection = script_connection(script, MOST_CONTENT);
    unsigned char length[4];

    script->piece = 1 + chance(chance(2) == 0 ? 30 : 3000);
    script->dances = chance(2) == 0;
    script_run(script, connection);
    CHECK(connection->phase == ENDED && connection->output.len == 0);
    write_number(length, sizeof length, BIG, script->taken.len);
    fwrite(length, 1, sizeof length, stdout);
    if (script->taken.len > 0)
        fwrite(buffer_head(&script->taken), 1, script->taken.len, stdout);
    connection_free(connection);
}

int main(void)
{
    unsigned char length[4];

    be_quiet();
    while (fread(length, 1, sizeof length, stdin) == sizeof length) {
        size_t len = (size_t)read_number(length, sizeof length, BIG);
        unsigned char *bytes = malloc(len + 1);

        CHECK(bytes != NULL);
        CHECK(fread(bytes, 1, len, stdin) == len);
        converse(bytes, len);
        free(bytes);
    }
    return ferror(stdin) || fflush(stdout) == EOF ? EXIT_FAILURE : EXIT_SUCCESS;
}

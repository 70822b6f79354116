/*
 * request: what the words of a command line ask for, as a message. For
 * app-client and message-tool.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>

#include "message.h" /* struct message */

struct request {
    struct message message;
    void *content; /* what message.content points to */
};

/*
 * Makes the request for an action and its values, the last of them NULL:
 *
 *     search VALUE   text/json, {"action": "search", "value": VALUE}
 *     sum N...       binary/uint32-array, each N from 0 to 4294967295
 *     other VALUE... binary/custom-client-binary-type, the bytes of all words
 *
 * Returns NULL, or what is wrong with the words. In both cases the request is
 * for request_free().
 */
const char *request_make(struct request *request, char *const *words);

/* The same for a line: the first word is the action, what follows it is one
 * value, or, for sum, a number in each word. Changes the line. */
const char *request_from_line(struct request *request, char *line);

void request_free(struct request *request);

#endif

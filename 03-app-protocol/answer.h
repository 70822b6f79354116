/*
 * answer: what the server says to a request. No socket is in it, and nothing
 * of where the request came from. Two tables at the end of answer.c say which
 * actions and which content types there are: to add one, write its function
 * and a line there.
 */
#ifndef ANSWER_H
#define ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "../common/buffer.h" /* struct buffer */
#include "message.h"          /* struct message */

/* Appends the response to a buffer. Returns false if there is none, and then
 * error says what is wrong with the request. */
bool answer(const struct message *request, struct buffer *output, char *error,
            size_t error_size);

/* Appends the reply to what breaks a rule, {"error": …}. Returns false if
 * there is no memory. */
bool answer_error(const char *error, struct buffer *output);

#endif

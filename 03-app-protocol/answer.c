/*
 * answer: see answer.h for what its functions promise. Read answer() and the
 * two tables at the end first.
 */
#include "answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h" /* parse_json(), json_text() */

enum { NUMBER = 4, SUM = 8 }; /* bytes of a uint32, and of a uint64 */

/* What went wrong, as a value of false. */
static bool wrong(char *error, size_t error_size, const char *what)
{
    snprintf(error, error_size, "%s", what);
    return false;
}

/* --- JSON ----------------------------------------------------------------- */

/* Appends a message with {key: value} as its content; takes the value over,
 * which may be NULL if there was no memory for it. Returns NULL, or what is
 * wrong, and then appends nothing. */
static const char *send_json(const char *key, json_t *value,
                             struct buffer *output)
{
    char *text = json_text(json_pack("{s:o}", key, value));
    struct message response = {
        .byteorder = own_byteorder(),
        .content_type = "text/json",
        .content_encoding = "utf-8",
        .content = (const unsigned char *)text,
        .content_length = text != NULL ? strlen(text) : 0,
    };
    const char *flaw = NULL;

    if (response.content_length > MOST_JSON)
        flaw = "content: its result is longer than 131072 bytes";
    else if (text == NULL || !message_encode(&response, output))
        flaw = "no memory";
    free(text);
    return flaw;
}

bool answer_error(const char *error, struct buffer *output)
{
    return send_json("error", json_string(error), output) == NULL;
}

/* An action: returns its result, or NULL and what is wrong in *error. */
static json_t *search(json_t *request, const char **error)
{
    static const char *const known[][2] = {
        {"morpheus", "Follow the white rabbit. 🐰"},
        {"ring", "In the caves beneath the Misty Mountains. 💍"},
        {"🐶", "🐾 Playing ball! 🏐"},
    };
    const char *value = json_string_value(json_object_get(request, "value"));

    if (value == NULL) {
        *error = "content: value is missing, or not a string";
        return NULL;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(value, known[i][0]) == 0)
            return json_string(known[i][1]);
    return json_sprintf("No match for '%s'.", value);
}

static json_t *perform(json_t *request, const char **error);

static bool answer_json(const struct message *request, struct buffer *output,
                        char *error, size_t error_size)
{
    json_t *json = parse_json("content", request->content,
                              request->content_length, error, error_size);
    const char *flaw = "no memory";
    json_t *result;

    if (json == NULL)
        return false;
    result = perform(json, &flaw);
    json_decref(json);
    if (result != NULL)
        flaw = send_json("result", result, output);
    return flaw == NULL || wrong(error, error_size, flaw);
}

/* --- Binary --------------------------------------------------------------- */

static bool send_binary(const char *type, const void *content, size_t len,
                        struct buffer *output)
{
    const struct message response = {
        .byteorder = own_byteorder(),
        .content_type = type,
        .content_encoding = "binary",
        .content = content,
        .content_length = len,
    };

    return message_encode(&response, output);
}

/* The numbers are in the order that the request declares, the sum is in the
 * order that the response does. */
static bool answer_sum(const struct message *request, struct buffer *output,
                       char *error, size_t error_size)
{
    unsigned long long sum = 0;
    unsigned char bytes[SUM];

    if (request->content_length % NUMBER != 0)
        return wrong(error, error_size,
                     "content: its length is no multiple of 4");
    for (size_t i = 0; i < request->content_length; i += NUMBER)
        sum += read_number(request->content + i, NUMBER, request->byteorder);
    write_number(bytes, sizeof bytes, own_byteorder(), sum);
    return send_binary("binary/uint64", bytes, sizeof bytes, output) ||
           wrong(error, error_size, "no memory");
}

static bool answer_other(const struct message *request, struct buffer *output,
                         char *error, size_t error_size)
{
    static const char start[] = "First 10 bytes of request: ";
    enum { START = sizeof start - 1, SHOWN = 10 };
    unsigned char bytes[START + SHOWN];
    size_t shown =
        request->content_length < SHOWN ? request->content_length : SHOWN;

    memcpy(bytes, start, START);
    if (shown > 0)
        memcpy(bytes + START, request->content, shown);
    return send_binary("binary/custom-server-binary-type", bytes, START + shown,
                       output) ||
           wrong(error, error_size, "no memory");
}

/* --- The tables ----------------------------------------------------------- */

static const struct {
    const char *name;
    json_t *(*perform)(json_t *request, const char **error);
} actions[] = {
    {"search", search},
};

static const struct {
    const char *content_type;
    bool (*answer)(const struct message *request, struct buffer *output,
                   char *error, size_t error_size);
} types[] = {
    {"text/json", answer_json},
    {"binary/uint32-array", answer_sum},
};

static json_t *perform(json_t *request, const char **error)
{
    const char *action = json_string_value(json_object_get(request, "action"));

    if (action == NULL) {
        *error = "content: action is missing, or not a string";
        return NULL;
    }
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (strcmp(action, actions[i].name) == 0)
            return actions[i].perform(request, error);
    return json_sprintf("Error: invalid action '%s'.", action);
}

bool answer(const struct message *request, struct buffer *output, char *error,
            size_t error_size)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(request->content_type, types[i].content_type) == 0)
            return types[i].answer(request, output, error, error_size);
    return answer_other(request, output, error, error_size);
}

/* request: see request.h for what each function promises. */
#include "request.h"

#include <stdlib.h>
#include <string.h>

#include "json.h" /* json_text() */

static const char *make_search(struct request *request, char *const *values)
{
    json_t *json;

    if (values[0] == NULL || values[1] != NULL)
        return "search takes one value";
    json = json_pack("{s:s, s:s}", "action", "search", "value", values[0]);
    if (json == NULL)
        return "the value is not UTF-8, or there is no memory";
    request->content = json_text(json);
    if (request->content == NULL)
        return "no memory";
    request->message = (struct message){
        .byteorder = own_byteorder(),
        .content_type = "text/json",
        .content_encoding = "utf-8",
        .content = request->content,
        .content_length = strlen(request->content),
    };
    return NULL;
}

/* Returns the number, or -1 if it is none from 0 to 2^32-1. */
static long long parse_uint32(const char *text)
{
    long long number = 0;

    if (*text == '\0')
        return -1;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        number = number * 10 + (*text - '0');
        if (number > 0xffffffff)
            return -1;
    }
    return number;
}

static const char *make_sum(struct request *request, char *const *values)
{
    size_t count = 0;
    unsigned char *bytes;

    while (values[count] != NULL)
        count++;
    request->content = bytes = malloc(4 * count + 1);
    if (bytes == NULL)
        return "no memory";
    for (size_t i = 0; i < count; i++) {
        long long number = parse_uint32(values[i]);

        if (number < 0)
            return "sum takes numbers from 0 to 4294967295";
        write_number(bytes + 4 * i, 4, own_byteorder(),
                     (unsigned long long)number);
    }
    request->message = (struct message){
        .byteorder = own_byteorder(),
        .content_type = "binary/uint32-array",
        .content_encoding = "binary",
        .content = bytes,
        .content_length = 4 * count,
    };
    return NULL;
}

static const char *make_other(struct request *request, char *const *words)
{
    size_t len = 0;
    unsigned char *bytes;

    for (char *const *word = words; *word != NULL; word++)
        len += strlen(*word);
    request->content = bytes = malloc(len + 1);
    if (bytes == NULL)
        return "no memory";
    request->message = (struct message){
        .byteorder = own_byteorder(),
        .content_type = "binary/custom-client-binary-type",
        .content_encoding = "binary",
        .content = bytes,
        .content_length = len,
    };
    for (char *const *word = words; *word != NULL; word++) {
        memcpy(bytes, *word, strlen(*word));
        bytes += strlen(*word);
    }
    return NULL;
}

const char *request_make(struct request *request, char *const *words)
{
    *request = (struct request){.content = NULL};
    if (words[0] == NULL)
        return "no action";
    if (strcmp(words[0], "search") == 0)
        return make_search(request, words + 1);
    if (strcmp(words[0], "sum") == 0)
        return make_sum(request, words + 1);
    return make_other(request, words);
}

const char *request_from_line(struct request *request, char *line)
{
    bool sum = strncmp(line, "sum ", 4) == 0;
    size_t most = 3; /* action, value, and the NULL */
    const char *flaw = "no memory";
    size_t count = 0;
    char **words;

    *request = (struct request){.content = NULL};
    for (const char *at = line; sum && *at != '\0'; at++)
        most += *at == ' ';
    words = calloc(most, sizeof *words);
    if (words == NULL)
        return flaw;
    for (char *at = line; at != NULL;) {
        char *blank = count == 0 || sum ? strchr(at, ' ') : NULL;

        words[count++] = at;
        if (blank != NULL)
            *blank++ = '\0';
        at = blank;
    }
    flaw = request_make(request, words);
    free(words);
    return flaw;
}

void request_free(struct request *request)
{
    free(request->content);
    request->content = NULL;
}

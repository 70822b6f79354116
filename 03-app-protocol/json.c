/* json: see json.h for what each function promises. */
#include "json.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Jansson (2.14) does not look at each of its allocations: when one fails, a
 * string may come out short, or even be written past its end. So we ask
 * beforehand whether there is as much memory as it may want, and afterwards
 * whether it had what it wanted. (One thread only asks it.)
 */
static bool memory_lacked;

enum { MOST_FOR_A_BYTE = 100, MOST_BESIDES = 65536 };

static void *allocate(size_t size)
{
    void *memory = malloc(size);

    memory_lacked = memory_lacked || memory == NULL;
    return memory;
}

/* From here on, memory_lacked tells whether Jansson lacked some. */
static void watch_memory(size_t len)
{
    void *volatile most = malloc(MOST_FOR_A_BYTE * len + MOST_BESIDES);

    json_set_alloc_funcs(allocate, free);
    memory_lacked = most == NULL;
    free(most);
}

/* Returns in our words what Jansson found wrong. */
static const char *kind_of(const json_error_t *flaw)
{
    switch (json_error_code(flaw)) {
    case json_error_invalid_utf8:
        return "not UTF-8";
    case json_error_duplicate_key:
        return "a key occurs twice";
    case json_error_numeric_overflow:
        return "a number is too large";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "\\u0000 is not allowed";
    case json_error_stack_overflow:
        return "nested too deeply";
    default:
        return "not JSON";
    }
}

json_t *parse_json(const char *what, const unsigned char *bytes, size_t len,
                   char *error, size_t error_size)
{
    const unsigned char *zero = len > 0 ? memchr(bytes, '\0', len) : NULL;
    json_error_t flaw = {.position = 0};
    json_t *json = NULL;

    watch_memory(len);
    if (!memory_lacked)
        json =
            json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &flaw);
    if (json_is_object(json) && zero == NULL && !memory_lacked)
        return json;
    if (memory_lacked)
        snprintf(error, error_size, "%s: no memory", what);
    else if (json != NULL && zero != NULL) /* Jansson skips it after a word */
        snprintf(error, error_size, "%s: not JSON at byte %td", what,
                 zero - bytes + 1);
    else if (json != NULL)
        snprintf(error, error_size, "%s: not an object", what);
    else
        snprintf(error, error_size, "%s: %s at byte %d", what, kind_of(&flaw),
                 flaw.position);
    json_decref(json);
    return NULL;
}

char *json_text(json_t *json)
{
    char *text;

    watch_memory(0);
    text = json_dumps(json, 0);
    json_decref(json);
    if (!memory_lacked)
        return text;
    free(text);
    return NULL;
}

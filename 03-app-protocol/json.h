/*
 * json: JSON text to values and back, by Jansson, with the rules of
 * docs/protocol.md.
 */
#ifndef JSON_H
#define JSON_H

#include <jansson.h>
#include <stddef.h>

/*
 * Returns the object that the text is, for json_decref(), or NULL, and then
 * error says of the part called what ("header") what is wrong with it:
 * "header: not JSON at byte 12".
 */
json_t *parse_json(const char *what, const unsigned char *bytes, size_t len,
                   char *error, size_t error_size);

/* Returns the text of a value, for free(), or NULL if there is no memory, or
 * no value. The value is given up by its caller. */
char *json_text(json_t *json);

#endif

/* file: see file.h for what its function promises. */
#include "file.h"

#include <stdio.h>
#include <stdlib.h>

#include "../../common/report.h" /* die() */

struct file read_file(const char *path)
{
    enum { MOST_BYTES = 4 << 20 }; /* more than any message that is measured */
    struct file file = {malloc(MOST_BYTES), 0};
    FILE *stream = fopen(path, "rb");

    if (file.bytes != NULL && stream != NULL) {
        file.len = fread(file.bytes, 1, MOST_BYTES, stream);
        if (ferror(stream))
            file.len = 0;
        fclose(stream);
    }
    if (file.len == 0 || file.len == MOST_BYTES)
        die("%s: cannot be read, empty, or %d bytes and more", path,
            MOST_BYTES);
    return file;
}

/* file: see file.h for what its function promises. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../../common/report.h" /* die() */

struct file read_file(const char *path)
{
    struct file file;
    int fd = open(path, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, file.bytes, MOST_BYTES) : -1;

    if (n < 0)
        die("%s: %s", path, strerror(errno));
    if (n == 0 || n == MOST_BYTES)
        die("%s: empty, or %d bytes and more", path, MOST_BYTES);
    close(fd);
    file.len = (size_t)n;
    return file;
}

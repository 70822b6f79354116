/* check: see check.h for what each function promises. */
#include "check.h"

#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char place[200];

void now_at(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(place, sizeof place, format, arguments);
    va_end(arguments);
}

_Noreturn void failed_check(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    if (place[0] != '\0')
        fprintf(stderr, "at: %s\n", place);
    exit(EXIT_FAILURE);
}

void check_text(const char *file, int line, const char *got, const char *wanted)
{
    if (strcmp(got, wanted) == 0)
        return;
    fprintf(stderr, "got:    %s\nwanted: %s\n", got, wanted);
    failed_check(file, line, "the texts are equal");
}

/* --- Memory --------------------------------------------------------------- */

static struct {
    long calls, fail;
    bool spare, paused;
    long now;
    size_t most;
} memory;

/* NOLINTBEGIN(bugprone-reserved-identifier): names that the linker gives */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void __real_free(void *pointer);
void __wrap_free(void *pointer);

static bool allowed(size_t size)
{
    bool doubled = size >= 32 && (size & (size - 1)) == 0;

    if (memory.paused)
        return true;
    memory.calls++;
    return memory.calls != memory.fail || (memory.spare && doubled);
}

static void *counted(void *pointer)
{
    if (pointer != NULL)
        memory.now += (long)malloc_usable_size(pointer);
    if (memory.now > 0 && (size_t)memory.now > memory.most)
        memory.most = (size_t)memory.now;
    return pointer;
}

void *__wrap_malloc(size_t size)
{
    return allowed(size) ? counted(__real_malloc(size)) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allowed(count * size) ? counted(__real_calloc(count, size)) : NULL;
}

void __wrap_free(void *pointer)
{
    if (pointer != NULL)
        memory.now -= (long)malloc_usable_size(pointer);
    __real_free(pointer);
}

/* NOLINTEND(bugprone-reserved-identifier) */

void count_memory(long fail, bool spare)
{
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    memory.calls = memory.now = 0;
    memory.most = 0;
    memory.fail = fail;
    memory.spare = spare;
}

void pause_memory(bool pause)
{
    memory.paused = pause;
}

long allocations(void)
{
    return memory.calls;
}

size_t memory_at_most(void)
{
    return memory.most;
}

long memory_left(void)
{
    return memory.now;
}

/* --- Bytes ---------------------------------------------------------------- */

const unsigned char *at_the_edge(const void *bytes, size_t len)
{
    static unsigned char *pages;
    static size_t room;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int zeros;

    if (room < len || pages == NULL) {
        if (pages != NULL)
            munmap(pages, room + page);
        room = (len / page + 1) * page;
        zeros = open("/dev/zero", O_RDWR);
        CHECK(zeros >= 0);
        pages = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE,
                     zeros, 0);
        CHECK(pages != MAP_FAILED);
        close(zeros);
        CHECK(mprotect(pages + room, page, PROT_NONE) == 0);
    }
    if (len > 0)
        memcpy(pages + room - len, bytes, len);
    return pages + room - len;
}

unsigned chance(unsigned limit)
{
    static uint64_t state = 1;

    /* Knuth's linear congruential generator; the high bits are the good ones.
     */
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)((state >> 33) % limit);
}

void put_message(struct buffer *buffer, const char *header, const void *content,
                 size_t len)
{
    size_t header_length = strlen(header);
    unsigned char length[2] = {(unsigned char)(header_length >> 8),
                               (unsigned char)(header_length & 0xff)};

    CHECK(header_length <= 0xffff);
    CHECK(buffer_append(buffer, length, sizeof length));
    CHECK(buffer_append(buffer, header, header_length));
    CHECK(buffer_append(buffer, content, len));
}

void put_good(struct buffer *buffer, const char *byteorder, const char *type,
              const char *encoding, const void *content, size_t len)
{
    char header[1000];

    snprintf(header, sizeof header,
             "{\"byteorder\": \"%s\", \"content-type\": \"%s\", "
             "\"content-encoding\": \"%s\", \"content-length\": %zu}",
             byteorder, type, encoding, len);
    put_message(buffer, header, content, len);
}

/* --- The tests ------------------------------------------------------------ */

int run_tests(const struct test *tests, int argc, char **argv)
{
    for (const struct test *test = tests; test->name != NULL; test++) {
        if (argc < 2) {
            puts(test->name);
        } else if (strcmp(argv[1], test->name) == 0) {
            count_memory(0, false);
            test->run();
            return EXIT_SUCCESS;
        }
    }
    if (argc < 2)
        return EXIT_SUCCESS;
    fprintf(stderr, "no test of this name: %s\n", argv[1]);
    return EXIT_FAILURE;
}

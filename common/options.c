/* options: see options.h for what parse_options() promises. */
#include "options.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAD_USAGE = 2 };

static void open_standard_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
        if (fd < 0)
            die("/dev/null: %s", strerror(errno));
    } while (fd <= STDERR_FILENO);
    close(fd);
}

static void print_usage(FILE *out, const struct options *options)
{
    fprintf(out,
            "Usage: %s [OPTIONS] %s\n"
            "%s\n"
            "HOST is 127.0.0.1 and PORT is 65432 if left out%s.\n"
            "\n"
            "  -t, --timeout SECONDS  the longest time without progress, 0.001 "
            "to 86400 (60)\n"
            "  -q, --quiet            do not narrate what happens\n"
            "  -h, --help             show this, and exit\n",
            program_name(), options->arguments, options->purpose,
            options->listens ? "; PORT 0 is any free one" : "");
}

static _Noreturn void usage_error(const struct options *options,
                                  const char *what, const char *given,
                                  const char *why)
{
    warn("%s %s: %s", what, quote(given, strlen(given)).text, why);
    print_usage(stderr, options);
    exit(BAD_USAGE);
}

/* Returns text, digits with at most one point in or around them, as
 * milliseconds; anything else, or a number out of range, as -1. */
static long parse_seconds(const char *text)
{
    const long longest = 86400L * 1000;
    long ms = 0;
    long unit = 1000; /* milliseconds that the next digit counts */
    size_t whole = strspn(text, "0123456789");
    size_t fraction = 0;

    if (text[whole] == '.')
        fraction = strspn(text + whole + 1, "0123456789");
    if (whole + fraction == 0 ||
        text[whole + (text[whole] == '.') + fraction] != '\0')
        return -1;
    for (size_t i = 0; i < whole; i++) {
        ms = ms * 10 + (text[i] - '0') * unit;
        if (ms > longest)
            return -1;
    }
    for (size_t i = 0; i < fraction; i++) {
        unit /= 10; /* 0 from the fourth digit on: too small to count … */
        ms += (text[whole + 1 + i] - '0') * unit;
        if (ms == longest && text[whole + 1 + i] != '0')
            return -1; /* … but not to be above the limit */
    }
    return ms >= 1 && ms <= longest ? ms : -1;
}

/* Not strtol() or atoi(): they accept " 80", "+80" and, atoi(), "80x". */
static bool is_port(const char *text, long lowest)
{
    long port = 0;

    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        port = port * 10 + (*text - '0');
        if (port > 65535)
            return false;
    }
    return port >= lowest;
}

/* "[::1]" is how addresses are printed; getaddrinfo() wants "::1". */
static char *without_brackets(char *host)
{
    size_t len = strlen(host);

    if (len < 2 || host[0] != '[' || host[len - 1] != ']' ||
        strchr(host, ':') == NULL)
        return host;
    host[len - 1] = '\0';
    return host + 1;
}

static void read_options(struct options *options, int argc, char **argv)
{
    static const struct option names[] = {
        {"timeout", required_argument, NULL, 't'},
        {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    opterr = 0; /* the messages are ours */
    while ((option = getopt_long(argc, argv, "+:t:qh", names, NULL)) != -1)
        switch (option) {
        case 't':
            options->timeout_ms = parse_seconds(optarg);
            if (options->timeout_ms < 0)
                usage_error(options, "time-out", optarg,
                            "must be a number of seconds, 0.001 to 86400");
            break;
        case 'q':
            be_quiet();
            break;
        case 'h':
            print_usage(stdout, options);
            if (fflush(stdout) == EOF || ferror(stdout))
                die("standard output: %s", strerror(errno));
            exit(EXIT_SUCCESS);
        case ':':
            usage_error(options, "option", argv[optind - 1], "needs a value");
        default: /* optopt is the letter, or 0 for a long name */
            usage_error(options, "option",
                        optopt == 0 ? argv[optind - 1]
                                    : (char[]){'-', (char)optopt, '\0'},
                        "not known, or not used like this");
        }
}

void parse_options(struct options *options, int argc, char **argv)
{
    options->host = "127.0.0.1";
    options->port = "65432";
    options->timeout_ms = 60000;
    report_as(argv[0]);
    open_standard_descriptors();
    read_options(options, argc, argv);
    argc -= optind;
    argv += optind;
    if (argc > options->most_arguments)
        usage_error(options, "argument", argv[options->most_arguments],
                    "one too many");
    if (argc > 0)
        options->host = without_brackets(argv[0]);
    if (argc > 1)
        options->port = argv[1];
    if (!is_port(options->port, options->listens ? 0 : 1))
        usage_error(options, "port", options->port,
                    options->listens ? "must be a number from 0 to 65535"
                                     : "must be a number from 1 to 65535");
    options->rest = argv + (argc < 2 ? argc : 2);
}

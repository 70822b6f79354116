/* options: see options.h for what parse_options() promises. */
#include "options.h"
#include "quote.h"
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
    fprintf(out, "Usage: %s [OPTIONS] %s\n%s\n", program_name(),
            options->arguments, options->purpose);
    if (options->least_arguments < 2 && !options->no_address)
        fprintf(out, "HOST is 127.0.0.1 and PORT is 65432 if left out%s.\n",
                options->listens ? "; PORT 0 is any free one" : "");
    fprintf(out, "\n");
    for (const struct program_option *own = options->own;
         own != NULL && own->name != NULL; own++)
        fprintf(out, "  %c%c%c --%s %-*s  %s\n", own->letter != 0 ? '-' : ' ',
                own->letter != 0 ? own->letter : ' ',
                own->letter != 0 ? ',' : ' ', own->name,
                14 - (int)strlen(own->name), own->value, own->purpose);
    if (!options->no_timeout)
        fprintf(out, "  -t, --timeout SECONDS  %s, 0.001 to 86400 (60)\n",
                options->timeout != NULL ? options->timeout
                                         : "the longest time without progress");
    fprintf(out, "  -q, --quiet            do not narrate what happens\n"
                 "  -h, --help             show this, and exit\n");
}

_Noreturn void usage_error(const struct options *options, const char *what,
                           const char *given, const char *why)
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

/* Returns text, decimal digits, as a number, or -1 if it is anything else or
 * out of range. Not strtol() or atoi(): they accept " 80", "+80" and, atoi(),
 * "80x". */
static long parse_number(const char *text, long lowest, long highest)
{
    long number = 0;

    if (*text == '\0')
        return -1;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        if (number > highest / 10 || number * 10 > highest - (*text - '0'))
            return -1;
        number = number * 10 + (*text - '0');
    }
    return number >= lowest ? number : -1;
}

/* Returns the same number, or shows the usage of the program and ends it. */
static long need_number(const struct options *options, const char *what,
                        const char *text, long lowest, long highest)
{
    long number = parse_number(text, lowest, highest);
    char why[80];

    snprintf(why, sizeof why, "must be a number from %ld to %ld", lowest,
             highest);
    if (number < 0)
        usage_error(options, what, text, why);
    return number;
}

long parse_argument(const struct options *options, const char *what,
                    const char *text, long lowest, long highest)
{
    return need_number(options, what, text == NULL ? "" : text, lowest,
                       highest);
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

static void read_own(const struct options *options,
                     const struct program_option *own, const char *value)
{
    char list[80] = "must be";
    size_t used = strlen(list);

    if (own->number != NULL) {
        *own->number =
            need_number(options, own->name, value, own->lowest, own->highest);
        return;
    }
    if (own->choices == NULL) {
        *own->choice = value;
        return;
    }
    for (const char *const *word = own->choices;
         *word != NULL && used < sizeof list; word++) {
        if (strcmp(*word, value) == 0) {
            *own->choice = *word;
            return;
        }
        used += (size_t)snprintf(list + used, sizeof list - used, "%s %s",
                                 word == own->choices ? "" : " or", *word);
    }
    usage_error(options, own->name, value, list);
}

enum { OWN = 256, MOST_OWN = 16 }; /* OWN + i stands for options->own[i] */

/* Makes of the options that all have and those that this program has what
 * getopt_long() wants: the letters, and the long names. */
static void list_options(const struct options *options, char *letters,
                         struct option *names)
{
    *names++ = (struct option){"quiet", no_argument, NULL, 'q'};
    *names++ = (struct option){"help", no_argument, NULL, 'h'};
    letters += sprintf(letters, "+:qh");
    if (!options->no_timeout) {
        *names++ = (struct option){"timeout", required_argument, NULL, 't'};
        letters += sprintf(letters, "t:");
    }
    for (int i = 0; options->own != NULL && options->own[i].name != NULL; i++) {
        *names++ = (struct option){options->own[i].name, required_argument,
                                   NULL, OWN + i};
        if (options->own[i].letter != 0)
            letters += sprintf(letters, "%c:", options->own[i].letter);
    }
    *names = (struct option){NULL, 0, NULL, 0};
}

/* Returns the option of this program that getopt_long() returned, or NULL. */
static const struct program_option *find_own(const struct options *options,
                                             int option)
{
    for (int i = 0; options->own != NULL && options->own[i].name != NULL; i++)
        if (option == OWN + i || option == options->own[i].letter)
            return &options->own[i];
    return NULL;
}

static void read_options(struct options *options, int argc, char **argv)
{
    struct option names[4 + MOST_OWN];
    char letters[8 + 2 * MOST_OWN];
    const struct program_option *own;
    int option;

    list_options(options, letters, names);
    opterr = 0; /* the messages are ours */
    while ((option = getopt_long(argc, argv, letters, names, NULL)) != -1)
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
        default:
            own = find_own(options, option);
            if (own != NULL) {
                read_own(options, own, optarg);
                break;
            }
            /* optopt is the letter, or 0 for a long name */
            usage_error(options, "option",
                        optopt == 0 || optopt >= OWN
                            ? argv[optind - 1]
                            : (char[]){'-', (char)optopt, '\0'},
                        "not known, or not used like this");
        }
}

static void check_needed(const struct options *options)
{
    for (const struct program_option *own = options->own;
         own != NULL && own->name != NULL; own++)
        if (own->needed && *own->choice == NULL)
            usage_error(options, "option", own->name, "is needed");
}

void parse_options(struct options *options, int argc, char **argv)
{
    options->host = "127.0.0.1";
    options->port = "65432";
    options->timeout_ms = 60000;
    report_as(argv[0]);
    open_standard_descriptors();
    read_options(options, argc, argv);
    check_needed(options);
    argc -= optind;
    argv += optind;
    if (argc < options->least_arguments) {
        warn("too few arguments: %d needed", options->least_arguments);
        print_usage(stderr, options);
        exit(BAD_USAGE);
    }
    if (options->most_arguments >= 0 && argc > options->most_arguments)
        usage_error(options, "argument", argv[options->most_arguments],
                    "one too many");
    options->rest = argv;
    if (options->no_address)
        return;
    if (argc > 0)
        options->host = without_brackets(argv[0]);
    if (argc > 1)
        options->port = argv[1];
    need_number(options, "port", options->port, options->listens ? 0 : 1,
                65535);
    options->rest = argv + (argc < 2 ? argc : 2);
}

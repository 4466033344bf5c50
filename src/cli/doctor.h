/* Looks at what a server needs of its machine: what the files of `nilo doctor` share. */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include "cli/command.h"

enum doctor_verdict { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL, DOCTOR_VERDICTS };

/* What a server uses, or would use. */
struct doctor_settings {
        uint64_t memory;
        uint64_t space_reserve;
        uint64_t segment_size;
        uint64_t connections_max;
        bool is_memory_only;
};

struct doctor {
        const struct cli_line *line;
        unsigned counts[DOCTOR_VERDICTS];
        struct doctor_settings settings;
        char *data;        /* directory; NULL: nowhere on this machine */
        bool is_running;   /* a server answers */
        bool is_here;      /* and is on this machine */
};

/* One line of the answer: what was looked at, what was found, and what to do ("" if nothing). */
void doctor_say(struct doctor *d, const char *check, enum doctor_verdict verdict, const char *advice, const char *format, ...)
        PRINTF_LIKE(5, 6);

void doctor_disk(struct doctor *d);                               /* doctor_disk.c */
void doctor_machine(struct doctor *d);                            /* doctor_machine.c */
void doctor_certificates(struct doctor *d, const char *pem);      /* doctor_certificates.c; `pem`: what the server shows, NULL: nothing */

/* Of sync times in order: what a quantile (0 to 1) of them is at most. */
double doctor_quantile(const double *sorted, size_t count, double quantile);
/* What sync times say of the disk. */
enum doctor_verdict doctor_judge_sync(double median_us, double p99_us, const char **ret_advice);
/* Seconds since 1970 of what a certificate says, and its name, from malloc. False for what is none. Goes on behind it. */
bool doctor_certificate_next(const char **pem, int64_t *ret_until, char **ret_subject);

#endif

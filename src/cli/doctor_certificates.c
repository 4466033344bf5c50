/* Certificates: those that the server shows, those in the data directory, and those of the command line. */
#include <errno.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "cli/doctor.h"

enum { DAY_S = 86400, SOON_DAYS = 30, PEM_SIZE_MAX = 64 * 1024, DEPTH_MAX = 2, FILES_MAX = 64 };

bool doctor_certificate_next(const char **pem, int64_t *ret_until, char **ret_subject)
{
        BIO *in = BIO_new_mem_buf(*pem, -1);
        X509 *certificate = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
        char subject[256];
        struct tm end;
        bool is_read = certificate && ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end);

        if (is_read) {
                *ret_until = (int64_t)timegm(&end);
                X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof subject);
                *ret_subject = memory_copy_string(subject);
                *pem += strlen(*pem) - (size_t)BIO_pending(in);
        }
        X509_free(certificate);
        BIO_free(in);
        return is_read;
}

/* `what`: the file, or who shows them. */
static void look_at_pem(struct doctor *d, const char *what, const char *pem)
{
        char *subject;
        int64_t until;

        while (doctor_certificate_next(&pem, &until, &subject)) {
                int64_t left = until - (int64_t)time(NULL);
                time_t end = (time_t)until;
                char date[32] = "";
                struct tm day;

                if (gmtime_r(&end, &day))
                        strftime(date, sizeof date, "%Y-%m-%d", &day);
                if (left < 0)
                        doctor_say(d, "certificate", DOCTOR_FAIL,
                                "Nobody who verifies trusts it any more: replace it.", "%s: %s expired on %s",
                                what, subject, date);
                else if (left < (int64_t)SOON_DAYS * DAY_S)
                        doctor_say(d, "certificate", DOCTOR_WARN,
                                "Replace it in time; a server reads the files again on SIGHUP.",
                                "%s: %s expires on %s, in %" PRId64 " days", what, subject, date,
                                left / DAY_S);
                else
                        doctor_say(d, "certificate", DOCTOR_OK, "", "%s: %s until %s", what, subject, date);
                free(subject);
        }
}

static void look_at_file(struct doctor *d, const char *path)
{
        FILE *file = fopen(path, "re");
        char *pem;
        size_t size;

        if (!file) {
                doctor_say(d, "certificate", DOCTOR_WARN, "", "%s: %s", path, strerror(errno));
                return;
        }
        pem = memory_new(PEM_SIZE_MAX + 1);
        size = fread(pem, 1, PEM_SIZE_MAX, file);
        pem[size] = 0;
        fclose(file);
        look_at_pem(d, path, pem);
        free(pem);
}

static bool is_certificate_name(const char *name)
{
        size_t size = strlen(name);

        return (size > 4 && strcmp(name + size - 4, ".pem") == 0) ||
               (size > 4 && strcmp(name + size - 4, ".crt") == 0);
}

/* The data directory and what is in it, without the stores. */
static void look_at_directory(struct doctor *d, const char *path, unsigned depth, unsigned *left)
{
        DIR *directory = opendir(path);
        const struct dirent *entry;

        while (directory && (entry = readdir(directory)) && *left) {
                char below[PATH_MAX];

                snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
                if (entry->d_name[0] == '.')
                        continue;
                if (entry->d_type == DT_DIR && depth < DEPTH_MAX && strcmp(entry->d_name, "stores") != 0)
                        look_at_directory(d, below, depth + 1, left);
                if (entry->d_type == DT_REG && is_certificate_name(entry->d_name)) {
                        *left -= 1;
                        look_at_file(d, below);
                }
        }
        if (directory)
                closedir(directory);
}

void doctor_certificates(struct doctor *d, const char *pem)
{
        unsigned left = FILES_MAX;

        if (pem)
                look_at_pem(d, "of the server", pem);
        if (d->data)
                look_at_directory(d, d->data, 1, &left);
        if (d->line->ca_file)
                look_at_file(d, d->line->ca_file);
        if (d->line->cert_file)
                look_at_file(d, d->line->cert_file);
}

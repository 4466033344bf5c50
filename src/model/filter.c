/* Regular expressions are .NET's dialect as far as PCRE2 has it: unanchored search, look-around, \uHHHH, \w
 * and \d by Unicode. A subject that is no UTF-8 is searched around its bad bytes, which match nothing.
 *
 * A stranger writes the pattern, so each match is bounded in steps, depth and heap; what exceeds them is too
 * costly, never a silent "no". The machine code of PCRE2 counts steps more coarsely than its interpreter and
 * knows no depth: the bounds are rough there, but they hold. */
#include "model/filter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/fault.h"
#include "base/memory.h"

enum {
        FILTER_MATCH_STEPS_MAX = 100000,
        FILTER_MATCH_DEPTH_MAX = 20000,
        FILTER_MATCH_HEAP_KIB_MAX = 8 * 1024,
        FILTER_PREFIX_SIZE_MAX = LIMIT_STREAM_NAME_SIZE_MAX + 2,
        FILTER_CACHE_SIZE = 32, /* a power of two */
        FILTER_CACHE_NAME_SIZE_MAX = 62,
};
static_assert(LIMIT_STREAM_NAME_SIZE_MAX + 2 >= (int)LIMIT_EVENT_TYPE_SIZE_MAX,
        "a prefix can be as long as a type");

/* The verdict on a subject seen before. Size 0: empty. */
struct filter_cached {
        uint8_t size;
        uint8_t verdict;
        uint8_t name[FILTER_CACHE_NAME_SIZE_MAX];
};
static_assert(sizeof(struct filter_cached) == 64, "one cache line");

struct filter {
        enum filter_target target;

        /* by regular expression */
        pcre2_code *code;   /* NULL: by prefixes */
        struct bytes regex; /* ours */
        pcre2_match_data *match;
        pcre2_match_context *bounds;
        struct filter_cached cache[FILTER_CACHE_SIZE];

        /* by prefixes: sorted, none begins with another */
        struct bytes *prefixes;
        unsigned prefix_count;
        uint8_t *prefix_bytes;
};

static int compare_prefixes(const void *a, const void *b)
{
        return bytes_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

/* Copies the prefixes, sorted, without those that begin with another one: then the only candidate for a
 * subject is the greatest prefix that is not greater than it. */
static void take_prefixes(struct filter *f, const struct filter_options *options)
{
        size_t size = 0;
        unsigned kept = 0;
        uint8_t *to;

        for (unsigned i = 0; i < options->prefix_count; i++)
                size += options->prefixes[i].size;
        f->prefixes = memory_new_array(options->prefix_count, sizeof *f->prefixes);
        f->prefix_bytes = memory_new(size);
        to = f->prefix_bytes;
        for (unsigned i = 0; i < options->prefix_count; i++) {
                struct bytes prefix = options->prefixes[i];

                if (prefix.size)
                        memcpy(to, prefix.data, prefix.size);
                f->prefixes[i] = bytes_of(to, prefix.size);
                to += prefix.size;
        }
        qsort(f->prefixes, options->prefix_count, sizeof *f->prefixes, compare_prefixes);
        for (unsigned i = 0; i < options->prefix_count; i++)
                if (kept == 0 || !bytes_starts_with(f->prefixes[i], f->prefixes[kept - 1]))
                        f->prefixes[kept++] = f->prefixes[i];
        f->prefix_count = kept;
}

static int compile_regex(struct filter *f, struct bytes regex, char *ret_why, size_t why_size)
{
        uint32_t flags =
                PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_ALT_BSUX | PCRE2_NEVER_BACKSLASH_C;
        PCRE2_SIZE offset = 0;
        int error = 0;

        f->code = pcre2_compile(regex.data, regex.size, flags, &error, &offset, NULL);
        if (!f->code) {
                PCRE2_UCHAR message[160];

                if (pcre2_get_error_message(error, message, sizeof message) == PCRE2_ERROR_BADDATA)
                        message[0] = 0;
                snprintf(ret_why, why_size, "regular expression, at byte %zu: %s", (size_t)offset, message);
                return FILTER_INVALID;
        }
        /* Without machine code, on processors that PCRE2 does not know, the interpreter does the same,
         * slower. */
        pcre2_jit_compile(f->code, PCRE2_JIT_COMPLETE);
        /* Only whether it matches is asked, so room for the whole match is enough. */
        f->match = pcre2_match_data_create(1, NULL);
        f->bounds = pcre2_match_context_create(NULL);
        if (!f->match || !f->bounds)
                return fault_raise(-ENOMEM);
        pcre2_set_match_limit(f->bounds, FILTER_MATCH_STEPS_MAX);
        pcre2_set_depth_limit(f->bounds, FILTER_MATCH_DEPTH_MAX);
        pcre2_set_heap_limit(f->bounds, FILTER_MATCH_HEAP_KIB_MAX);
        return 0;
}

/* Says in `ret_why` what limit the options break; true if none. */
static bool options_are_within_limits(const struct filter_options *options, char *ret_why, size_t why_size)
{
        if (options->regex.size > LIMIT_FILTER_REGEX_SIZE_MAX) {
                snprintf(ret_why, why_size, "regular expression is longer than %d bytes",
                        LIMIT_FILTER_REGEX_SIZE_MAX);
                return false;
        }
        if (options->regex.size)
                return true;
        if (options->prefix_count == 0) {
                snprintf(ret_why, why_size, "a filter needs a regular expression or at least one prefix");
                return false;
        }
        if (options->prefix_count > LIMIT_FILTER_PREFIXES_MAX) {
                snprintf(ret_why, why_size, "more than %d prefixes", LIMIT_FILTER_PREFIXES_MAX);
                return false;
        }
        for (unsigned i = 0; i < options->prefix_count; i++) {
                if (options->prefixes[i].size > FILTER_PREFIX_SIZE_MAX) {
                        snprintf(ret_why, why_size, "prefix %u is longer than %d bytes", i + 1,
                                FILTER_PREFIX_SIZE_MAX);
                        return false;
                }
        }
        return true;
}

int filter_new(const struct filter_options *options, struct filter **ret, char *ret_why, size_t why_size)
{
        struct filter *f;
        int r = 0;

        assert(options->target == FILTER_STREAM || options->target == FILTER_TYPE);
        assert(why_size > 0);

        if (!options_are_within_limits(options, ret_why, why_size))
                return FILTER_INVALID;
        f = MEMORY_NEW(struct filter);
        f->target = options->target;
        if (options->regex.size) {
                uint8_t *copy = memory_new(options->regex.size);

                memcpy(copy, options->regex.data, options->regex.size);
                f->regex = bytes_of(copy, options->regex.size);
                r = compile_regex(f, f->regex, ret_why, why_size);
        } else {
                take_prefixes(f, options);
        }
        if (r) {
                filter_free(&f);
                return r;
        }
        *ret = f;
        return 0;
}

void filter_free(struct filter **filter)
{
        struct filter *f = *filter;

        if (!f)
                return;
        pcre2_match_context_free(f->bounds);
        pcre2_match_data_free(f->match);
        pcre2_code_free(f->code);
        free((void *)f->regex.data);
        free(f->prefixes);
        free(f->prefix_bytes);
        free(f);
        *filter = NULL;
}

struct filter_options filter_describe(const struct filter *f)
{
        return (struct filter_options){.target = f->target,
                .regex = f->regex,
                .prefixes = f->prefixes,
                .prefix_count = f->prefix_count};
}

static enum filter_verdict match_prefixes(const struct filter *f, struct bytes subject)
{
        unsigned low = 0;
        unsigned high = f->prefix_count;

        /* Below `low` all are not greater than the subject, from `high` on all are greater. */
        while (low < high) {
                unsigned middle = low + (high - low) / 2;

                if (bytes_compare(f->prefixes[middle], subject) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low > 0 && bytes_starts_with(subject, f->prefixes[low - 1]) ? FILTER_MATCH : FILTER_NO_MATCH;
}

static enum filter_verdict match_regex(const struct filter *f, struct bytes subject)
{
        PCRE2_SPTR at = subject.size ? subject.data : (PCRE2_SPTR) "";
        int r = pcre2_match(f->code, at, subject.size, 0, 0, f->match, f->bounds);

        /* The machine code has a small stack; the interpreter has its frames on the heap. */
        if (r == PCRE2_ERROR_JIT_STACKLIMIT)
                r = pcre2_match(f->code, at, subject.size, 0, PCRE2_NO_JIT, f->match, f->bounds);
        if (r >= 0) /* 0: matched, with more groups than there is room for */
                return FILTER_MATCH;
        if (r == PCRE2_ERROR_NOMATCH)
                return FILTER_NO_MATCH;
        /* Over a bound, or no verdict for another reason, such as a recursion that never ends. */
        return FILTER_TOO_COSTLY;
}

enum filter_verdict filter_match(struct filter *f, struct bytes stream, struct bytes type)
{
        struct bytes subject = f->target == FILTER_STREAM ? stream : type;
        struct filter_cached *cached;

        if (!f->code)
                return match_prefixes(f, subject);
        if (subject.size == 0 || subject.size > FILTER_CACHE_NAME_SIZE_MAX)
                return match_regex(f, subject);
        cached = &f->cache[name_hash(subject) % FILTER_CACHE_SIZE];
        if (cached->size != subject.size || memcmp(cached->name, subject.data, subject.size) != 0) {
                cached->verdict = (uint8_t)match_regex(f, subject);
                cached->size = (uint8_t)subject.size;
                memcpy(cached->name, subject.data, subject.size);
        }
        return cached->verdict;
}

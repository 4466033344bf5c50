/* Any pattern or prefixes on any subject: a verdict in bounded time, the same when remembered.
 *
 *   clang -std=gnu17 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/fuzz_filter.c
 * \ src/model/[a-z]*.c src/base/[a-z]*.c -lcrypto -lpcre2-8 -ljansson -lpthread */
#include <stdlib.h>

#include "model/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
        if (!is_true)
                abort();
}

/* Input: a byte of mode, a byte of the length of the pattern, the pattern, the subject. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct filter_options options = {0};
        struct filter *f = NULL;
        struct bytes pattern;
        struct bytes subject;
        struct bytes prefixes[4];
        char why[256] = "";
        int r;

        if (size < 2)
                return 0;
        pattern = bytes_of(data + 2, MIN(data[1], size - 2));
        subject = bytes_of(pattern.data + pattern.size, size - 2 - pattern.size);
        options.target = data[0] & 1 ? FILTER_TYPE : FILTER_STREAM;
        if (data[0] & 2) {
                for (unsigned i = 0; i < COUNT_OF(prefixes); i++)
                        prefixes[i] = bytes_of(pattern.data + pattern.size / 4 * i, pattern.size / 4);
                options.prefixes = prefixes;
                options.prefix_count = COUNT_OF(prefixes);
        } else {
                options.regex = pattern;
        }
        r = filter_new(&options, &f, why, sizeof why);
        if (r) {
                require(r == FILTER_INVALID && why[0]);
                return 0;
        }
        for (size_t cut = 0; cut < 2; cut++) {
                struct bytes part = bytes_of(subject.data, subject.size >> cut);
                enum filter_verdict first = filter_match(f, part, part);

                require(filter_match(f, part, part) == first);
                if (data[0] & 2) {
                        enum filter_verdict expected = FILTER_NO_MATCH;

                        for (unsigned i = 0; i < COUNT_OF(prefixes); i++)
                                if (bytes_starts_with(part, prefixes[i]))
                                        expected = FILTER_MATCH;
                        require(first == expected);
                }
        }
        filter_free(&f);
        return 0;
}

/* What a start would use: the configuration read as a start reads it, shown, and nothing started. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "server/config.h"
#include "server/server.h"

/* The command line's codes, not a server's. */
enum { CHECK_RIGHT = 0, CHECK_WRONG = 2 };

/* `nilo config check FILE FLAGS` as the flags of a start: --config FILE FLAGS. From malloc, as is its list.
 */
static char **flags_of(int count, char **words, int *ret_count)
{
        static char config[] = "--config";
        char **flags = memory_new_array((size_t)count + 2, sizeof *flags);
        int n = 0;

        for (int i = 0; i < count; i++) {
                if (i == 0 && words[i][0] != '-')
                        flags[n++] = config;
                flags[n++] = words[i];
        }
        *ret_count = n;
        return flags;
}

static int show_problems(const struct buffer *problems)
{
        fprintf(stderr, "%.*snilo: a start would not use this configuration\n", (int)problems->size,
                (const char *)problems->data);
        return CHECK_WRONG;
}

int server_check_config(int count, char **words, char **environment)
{
        struct config config;
        struct buffer problems = {0};
        struct buffer out = {0};
        int flag_count;
        char **flags = flags_of(count, words, &flag_count);
        int code = CHECK_RIGHT;

        if (config_read(flag_count, flags, environment, &config, &problems))
                code = show_problems(&problems);
        if (config.json || !isatty(STDOUT_FILENO))
                config_to_lines(&config, &out);
        else
                config_to_table(&config, &out);
        fwrite(out.data, 1, out.size, stdout);
        buffer_fini(&out);
        buffer_fini(&problems);
        config_fini(&config);
        free(flags);
        return code;
}

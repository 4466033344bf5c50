/* One program: a server when it is given nothing or flags, a tool when it is given a noun. */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "server/server.h"

/* nilo cluster join SEEDS FLAGS: the same as nilo --join SEEDS FLAGS. */
static int join(int argc, char **argv)
{
        static char flag[] = "--join";

        argv[2] = flag;
        return server_main(argc - 2, argv + 2, environ);
}

static bool wants_help(int argc, char **argv)
{
        for (int i = 1; i < argc; i++)
                if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
                        return true;
        return false;
}

int main(int argc, char **argv)
{
        if (argc < 2)
                return server_main(0, NULL, environ);
        if (strcmp(argv[1], "serve") == 0)
                return server_main(argc - 2, argv + 2, environ);
        if (argc > 4 && strcmp(argv[1], "cluster") == 0 && strcmp(argv[2], "join") == 0 && argv[3][0] != '-')
                return join(argc, argv);
        if (argc > 2 && strcmp(argv[1], "config") == 0 && strcmp(argv[2], "check") == 0 &&
                !wants_help(argc, argv))
                return server_check_config(argc - 3, argv + 3, environ);
        if (argv[1][0] != '-' || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
                strcmp(argv[1], "--version") == 0)
                return cli_main(argc, argv);
        return server_main(argc - 1, argv + 1, environ);
}

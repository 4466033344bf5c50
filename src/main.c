/* One program: a server when it is given nothing or flags, a tool when it is given a noun. */
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "server/server.h"

int main(int argc, char **argv)
{
        if (argc < 2)
                return server_main(0, NULL, environ);
        if (strcmp(argv[1], "serve") == 0)
                return server_main(argc - 2, argv + 2, environ);
        if (argv[1][0] != '-' || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
                strcmp(argv[1], "--version") == 0)
                return cli_main(argc, argv);
        return server_main(argc - 1, argv + 1, environ);
}

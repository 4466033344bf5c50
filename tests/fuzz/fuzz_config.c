/* Any bytes as the YAML file of the configuration: it ends, every problem has a line of its own, and what is
 * taken is within its limits (G17).
 * Links: server base */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
        if (!is_true)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static char *environment[] = {NULL};
        static char path[64];
        static int fd = -1;
        char *arguments[] = {"--config", path};
        struct buffer problems = {0};
        struct config config;
        int r;

        if (fd < 0) {
                fd = memfd_create("config", MFD_CLOEXEC);
                require(fd >= 0);
                snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        }
        require(ftruncate(fd, 0) == 0);
        require(pwrite(fd, data, size, 0) == (ssize_t)size);
        r = config_read(2, arguments, environment, &config, &problems);
        require((r == CONFIG_INVALID) == (problems.size > 0));
        require(!problems.size || problems.data[problems.size - 1] == '\n');
        require(config.port <= 65535);
        require(config.memory >= 32 * MIB);
        require(*config.data);
        config_fini(&config);
        buffer_fini(&problems);
        return 0;
}

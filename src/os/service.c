/* What the machine's service manager is told: one datagram for each state, as sd_notify(3) defines it. */
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "os/os.h"

void os_service_notify(const char *state)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        size_t size = path ? strlen(path) : 0;
        int fd;

        if (size < 2 || size >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
                return;
        memcpy(to.sun_path, path, size);
        if (path[0] == '@')
                to.sun_path[0] = '\0'; /* of the abstract namespace */
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return;
        /* Nobody may be listening any more, which is no reason to fail. */
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size));
        close(fd);
}

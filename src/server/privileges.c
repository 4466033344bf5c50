/* Rights that are not there cannot be used by whoever finds a way in. They are given up once, at the start,
 * for good: capabilities go from the bounding set too, so that nothing that is executed brings them back.
 *
 * Capabilities are set by the kernel's own call: glibc has none, and each of a thread's sets is its own, so
 * this runs before there are threads. */
#include "server/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refuse(struct buffer *problem, const char *what, const char *next)
{
        buffer_format(problem, "%s: %s. %s", what, strerror(errno), next);
        return PRIVILEGES_REFUSED;
}

/* The data directory must be the user's, or nothing could be written there. One that is there is left as it
 * is: whose it should be is not for a start to decide. */
static int give_data(const char *data, const struct passwd *user, struct buffer *problem)
{
        struct stat status;

        if (mkdir(data, 0700) == 0) {
                if (chown(data, user->pw_uid, user->pw_gid))
                        return refuse(
                                problem, data, "The data directory could not be given to the user of --user");
                return 0;
        }
        if (errno == ENOENT || errno == EEXIST) {
                /* A missing parent: said when the directory is opened, with its name. */
                if (stat(data, &status) || status.st_uid == user->pw_uid)
                        return 0;
                buffer_format(problem,
                        "the data directory %s belongs to the user number %u, so --user %s could not write "
                        "there. "
                        "Give it over: chown -R %s: %s",
                        data, (unsigned)status.st_uid, user->pw_name, user->pw_name, data);
                return PRIVILEGES_REFUSED;
        }
        return refuse(problem, data, "The data directory could not be made");
}

static int become(const struct privileges_options *options, struct buffer *problem)
{
        const struct passwd *user;
        int r;

        errno = 0;
        user = getpwnam(options->user);
        if (!user) {
                buffer_format(problem,
                        "--user %s: this machine has no such user. Make it: useradd --system %s",
                        options->user, options->user);
                return PRIVILEGES_REFUSED;
        }
        if (geteuid() != 0) {
                if (user->pw_uid == geteuid())
                        return 0;
                buffer_format(problem,
                        "--user %s: only root can become another user. Start it as root, or as %s without "
                        "--user",
                        options->user, options->user);
                return PRIVILEGES_REFUSED;
        }
        r = options->data ? give_data(options->data, user, problem) : 0;
        if (r)
                return r;
        /* For the one capability that is kept: a change of the user would drop it. */
        if (options->binds_low_ports && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
                return refuse(problem, "PR_SET_KEEPCAPS", "Choose ports from 1024");
        if (setgroups(0, NULL) || setgid(user->pw_gid) || setuid(user->pw_uid))
                return refuse(problem, options->user, "The process could not become this user");
        return 0;
}

static void drop_bounding_set(void)
{
        for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
                (void)prctl(
                        PR_CAPBSET_DROP, capability, 0, 0, 0); /* refused to whoever may not: he has none */
}

static int drop_capabilities(bool binds_low_ports, struct buffer *problem)
{
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
        uint32_t kept = binds_low_ports ? 1u << CAP_NET_BIND_SERVICE : 0;

        if (syscall(SYS_capget, &head, data))
                return refuse(problem, "capget", "The kernel does not tell the capabilities");
        kept &= data[0].permitted;
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* a kernel before 4.3 has none */
        memset(data, 0, sizeof data);
        data[0].permitted = data[0].effective = kept;
        head = (struct __user_cap_header_struct){.version = _LINUX_CAPABILITY_VERSION_3};
        if (syscall(SYS_capset, &head, data))
                return refuse(problem, "capset", "The capabilities could not be given up");
        return 0;
}

int privileges_drop(const struct privileges_options *options, struct buffer *said, struct buffer *problem)
{
        int r = 0;

        umask(077);
        drop_bounding_set(); /* while it may */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
                return refuse(problem, "PR_SET_NO_NEW_PRIVS", "A kernel from 3.5 is needed");
        if (*options->user)
                r = become(options, problem);
        if (!r)
                r = drop_capabilities(options->binds_low_ports, problem);
        if (r)
                return r;
        if (geteuid() == 0)
                buffer_add_string(said, "root, without capabilities; --user NAME makes it another user");
        else
                buffer_format(said, "user number %u, without capabilities", (unsigned)geteuid());
        return 0;
}

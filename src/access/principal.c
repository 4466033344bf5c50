/* Principals: one piece of memory each, counted. */
#include <stdlib.h>

#include "access/room.h"

struct principal *principal_new(
        struct bytes login, const struct bytes *groups, unsigned count, uint64_t user_generation)
{
        size_t size = sizeof(struct principal) + count * sizeof(char *) + login.size + 1;
        struct principal *p;
        char *at;

        for (unsigned i = 0; i < count; i++)
                size += groups[i].size + 1;
        p = memory_new(size);
        *p = (struct principal){.holders = 1,
                .groups = (char **)(p + 1),
                .group_count = count,
                .user_generation = user_generation};
        at = (char *)(p->groups + count);
        p->login = at;
        memcpy(at, login.data, login.size);
        at += login.size + 1;
        for (unsigned i = 0; i < count; i++) {
                p->groups[i] = at;
                memcpy(at, groups[i].data, groups[i].size);
                at += groups[i].size + 1;
        }
        p->is_admin = principal_is_in(p, GROUP_ADMINS);
        p->is_ops = principal_is_in(p, GROUP_OPS);
        return p;
}

struct principal *principal_copy(const struct principal *p)
{
        struct bytes groups[ACCESS_GROUPS_MAX];

        for (unsigned i = 0; i < p->group_count; i++)
                groups[i] = bytes_of_string(p->groups[i]);
        return principal_new(bytes_of_string(p->login), groups, p->group_count, p->user_generation);
}

const char *principal_login(const struct principal *p)
{
        return p->login;
}

bool principal_is_in(const struct principal *p, const char *group)
{
        for (unsigned i = 0; p && i < p->group_count; i++)
                if (strcmp(p->groups[i], group) == 0)
                        return true;
        return false;
}

unsigned principal_group_count(const struct principal *p)
{
        return p->group_count;
}

const char *principal_group(const struct principal *p, unsigned i)
{
        assert(i < p->group_count);
        return p->groups[i];
}

struct principal *principal_hold(struct principal *p)
{
        if (p)
                p->holders++;
        return p;
}

void principal_release(struct principal **p)
{
        if (*p && --(*p)->holders == 0)
                free(*p);
        *p = NULL;
}

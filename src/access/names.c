/* Which logins, names, groups and passwords there may be.
 *
 * They are compared byte by byte, as they were sent: no normalisation and no folding of case, so that two
 * programs never disagree about who somebody is. What people cannot see is therefore not allowed in them:
 * control characters, and those that are invisible or turn the direction of writing. */
#include "access/room.h"

/* The character at `at`, of valid UTF-8. */
static uint32_t character_at(struct bytes text, size_t *at)
{
        const uint8_t *p = text.data + *at;
        unsigned more = p[0] < 0x80 ? 0 : p[0] < 0xe0 ? 1 : p[0] < 0xf0 ? 2 : 3;
        uint32_t c = more ? p[0] & (0x3fu >> more) : p[0];

        for (unsigned i = 1; i <= more; i++)
                c = c << 6 | (p[i] & 0x3fu);
        *at += more + 1;
        return c;
}

static bool is_invisible(uint32_t c)
{
        return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c ||
               (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) ||
               c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);
}

static bool is_visible(struct bytes text)
{
        size_t at = 0;

        while (at < text.size)
                if (is_invisible(character_at(text, &at)))
                        return false;
        return true;
}

static bool begins_or_ends_with_space(struct bytes text)
{
        return text.size && (text.data[0] == ' ' || text.data[text.size - 1] == ' ');
}

const char *login_problem(struct bytes login)
{
        if (login.size == 0)
                return "a login is needed";
        if (login.size > ACCESS_LOGIN_SIZE_MAX)
                return "a login has at most 128 bytes";
        if (!bytes_is_utf8(login) || !is_visible(login))
                return "a login is UTF-8 without control or invisible characters";
        if (memchr(login.data, ':', login.size))
                return "a login has no ':', which ends it in a Basic Authorization";
        if (login.data[0] == '$')
                return "a login does not begin with '$': groups of the system do";
        if (begins_or_ends_with_space(login))
                return "a login neither begins nor ends with a space";
        return NULL;
}

const char *full_name_problem(struct bytes name)
{
        if (name.size > ACCESS_FULL_NAME_SIZE_MAX)
                return "a full name has at most 256 bytes";
        if (!bytes_is_utf8(name) || !is_visible(name))
                return "a full name is UTF-8 without control or invisible characters";
        return NULL;
}

const char *group_problem(struct bytes group)
{
        if (group.size == 0 || group.size > ACCESS_LOGIN_SIZE_MAX)
                return "the name of a group has from 1 to 128 bytes";
        if (!bytes_is_utf8(group) || !is_visible(group) || begins_or_ends_with_space(group))
                return "the name of a group is UTF-8 without control or invisible characters, and no space "
                       "at its ends";
        if (bytes_equal(group, EVERY_USER))
                return "every user belongs to $all: it cannot be given";
        return NULL;
}

const char *password_problem(struct bytes password, bool is_compatible)
{
        if (password.size < ACCESS_PASSWORD_SIZE_MIN && !is_compatible)
                return "a password has at least 8 bytes";
        if (password.size > ACCESS_PASSWORD_SIZE_MAX)
                return "a password has at most 1024 bytes";
        if (!bytes_is_utf8(password))
                return "a password is UTF-8";
        for (size_t i = 0; i < password.size; i++)
                if (password.data[i] < 0x20 || password.data[i] == 0x7f)
                        return "a password has no control characters, which a Basic Authorization cannot "
                               "carry";
        return NULL;
}

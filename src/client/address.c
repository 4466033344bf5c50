#include "client/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/memory.h"

enum { PORT_DEFAULT = 2113, PORT_MAX = 65535, NAME_SHOWN_MAX = 64 };

/* What KurrentDB's clients know. What has no meaning here is taken, so that one string serves every client.
 */
enum key { KEY_TLS, KEY_VERIFY, KEY_CA_FILE, KEY_CERTIFICATE, KEY_KEY, KEY_WITHOUT_MEANING };

static const struct {
        const char *name;
        enum key key;
} keys[] = {
        {"tls", KEY_TLS},
        {"tlsVerifyCert", KEY_VERIFY},
        {"tlsCAFile", KEY_CA_FILE},
        {"userCertFile", KEY_CERTIFICATE},
        {"userKeyFile", KEY_KEY},
        {"connectionName", KEY_WITHOUT_MEANING},
        {"nodePreference", KEY_WITHOUT_MEANING},
        {"maxDiscoverAttempts", KEY_WITHOUT_MEANING},
        {"discoveryInterval", KEY_WITHOUT_MEANING},
        {"gossipTimeout", KEY_WITHOUT_MEANING},
        {"defaultDeadline", KEY_WITHOUT_MEANING},
        {"keepAliveInterval", KEY_WITHOUT_MEANING},
        {"keepAliveTimeout", KEY_WITHOUT_MEANING},
        {"throwOnAppendFailure", KEY_WITHOUT_MEANING},
};

void address_forget(char **secret)
{
        if (*secret)
                explicit_bzero(*secret, strlen(*secret));
        free(*secret);
        *secret = NULL;
}

void address_fini(struct address *a)
{
        for (unsigned i = 0; i < a->count; i++)
                free(a->bases[i]);
        address_forget(&a->user);
        address_forget(&a->password);
        free(a->ca_file);
        free(a->certificate_file);
        free(a->key_file);
        *a = (struct address){0};
}

static int hex_of(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undoes "%"-escapes. NULL for a broken one, and for what stands for the end of a string. */
static char *unescape(struct bytes text)
{
        struct buffer out = {0};

        for (size_t i = 0; i < text.size; i++) {
                int c = text.data[i];

                if (c == '%') {
                        int high = i + 2 < text.size ? hex_of((char)text.data[i + 1]) : -1;
                        int low = i + 2 < text.size ? hex_of((char)text.data[i + 2]) : -1;

                        if (high < 0 || low < 0 || !(high | low)) {
                                buffer_fini(&out);
                                return NULL;
                        }
                        c = high << 4 | low;
                        i += 2;
                }
                buffer_add_u8(&out, (uint8_t)c);
        }
        buffer_add_u8(&out, 0);
        return (char *)out.data;
}

static struct bytes before(struct bytes text, char end)
{
        const uint8_t *at = text.size ? memchr(text.data, end, text.size) : NULL;

        return at ? bytes_of(text.data, (size_t)(at - text.data)) : text;
}

/* What is behind the first `part` bytes and the sign after them. */
static struct bytes behind(struct bytes text, struct bytes part)
{
        size_t size = MIN(part.size + 1, text.size);

        return bytes_of(text.data + size, text.size - size);
}

/* ---- user and hosts ---- */

static bool parse_user(struct address *a, struct bytes text)
{
        struct bytes name = before(text, ':');

        a->user = unescape(name);
        if (name.size < text.size)
                a->password = unescape(behind(text, name));
        return a->user && *a->user && (a->password || name.size == text.size);
}

/* A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port. */
static bool host_is_valid(struct bytes host, bool *ret_has_port)
{
        struct bytes name = before(host, ':');
        struct bytes port;
        uint64_t n;

        *ret_has_port = false;
        if (host.size && host.data[0] == '[') {
                name = before(host, ']');
                if (name.size < 2 || name.size == host.size)
                        return false;
                for (size_t i = 1; i < name.size; i++)
                        if (hex_of((char)name.data[i]) < 0 && !strchr(":.", name.data[i]))
                                return false;
                name.size++;
        } else {
                for (size_t i = 0; i < name.size; i++) {
                        char c = (char)name.data[i];

                        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                                    c == '.' || c == '-' || c == '_'))
                                return false;
                }
        }
        if (!name.size || name.size == host.size)
                return name.size > 0;
        if (host.data[name.size] != ':')
                return false;
        port = behind(host, name);
        *ret_has_port = true;
        return bytes_to_number(port, &n) && n > 0 && n <= PORT_MAX;
}

static bool add_host(struct address *a, struct bytes host, bool is_kurrent, struct bytes path,
        char problem[NILO_CLIENT_PROBLEM_SIZE])
{
        struct buffer base = {0};
        bool has_port;

        if (!host_is_valid(host, &has_port)) {
                snprintf(problem, NILO_CLIENT_PROBLEM_SIZE,
                        "it has no host that can be one, with or without a port (such as 127.0.0.1:2113)");
                return false;
        }
        if (a->count == ADDRESS_HOSTS_MAX) {
                snprintf(problem, NILO_CLIENT_PROBLEM_SIZE, "more than %d hosts", ADDRESS_HOSTS_MAX);
                return false;
        }
        buffer_format(&base, "%s://", a->is_tls ? "https" : "http");
        buffer_add_bytes(&base, host);
        if (is_kurrent && !has_port)
                buffer_format(&base, ":%d", PORT_DEFAULT);
        while (path.size && path.data[path.size - 1] == '/')
                path.size--;
        buffer_add_bytes(&base, path);
        buffer_add_u8(&base, 0);
        a->bases[a->count++] = (char *)base.data;
        return true;
}

/* ---- options behind "?" ---- */

static bool parse_bool(const char *text, bool *ret)
{
        *ret = strcasecmp(text, "true") == 0;
        return *ret || strcasecmp(text, "false") == 0;
}

static bool set_option(struct address *a, enum key key, char **value)
{
        char **const files[] = {[KEY_CA_FILE] = &a->ca_file,
                [KEY_CERTIFICATE] = &a->certificate_file,
                [KEY_KEY] = &a->key_file};
        bool is_on = true;
        bool ok = true;

        switch (key) {
        case KEY_TLS:
                ok = parse_bool(*value, &is_on);
                a->is_tls = is_on;
                break;
        case KEY_VERIFY:
                ok = parse_bool(*value, &is_on);
                a->trusts_anyone = !is_on;
                break;
        case KEY_CA_FILE:
        case KEY_CERTIFICATE:
        case KEY_KEY:
                ok = **value != 0;
                free(*files[key]);
                *files[key] = *value;
                *value = NULL;
                break;
        case KEY_WITHOUT_MEANING:
                break;
        }
        return ok;
}

static bool parse_option(struct address *a, struct bytes option, char problem[NILO_CLIENT_PROBLEM_SIZE])
{
        struct bytes name = before(option, '=');
        char *value = unescape(behind(option, name));
        bool is_known = false;
        bool is_right = false;

        for (size_t i = 0; i < COUNT_OF(keys) && value; i++) {
                if (name.size != strlen(keys[i].name) ||
                        strncasecmp(keys[i].name, (const char *)name.data, name.size) != 0)
                        continue;
                is_known = true;
                is_right = set_option(a, keys[i].key, &value);
        }
        free(value);
        if (is_right)
                return true;
        snprintf(problem, NILO_CLIENT_PROBLEM_SIZE,
                is_known ? "%.*s: no value that it takes"
                         : "no option \"%.*s\" with a value; there are tls, tlsVerifyCert, tlsCAFile, "
                           "userCertFile, userKeyFile",
                (int)MIN(name.size, (size_t)NAME_SHOWN_MAX), (const char *)name.data);
        return false;
}

/* ---- the whole ---- */

static bool scheme_of(const char *url, bool *ret_is_tls, bool *ret_is_kurrent, size_t *ret_size)
{
        static const struct {
                const char *name;
                bool is_tls;
                bool is_kurrent;
        } schemes[] = {
                {"http://", false, false},
                {"https://", true, false},
                {"kurrentdb://", true, true},
                {"kurrentdb+discover://", true, true},
                {"kurrent://", true, true},
                {"kurrent+discover://", true, true},
                {"kdb://", true, true},
                {"kdb+discover://", true, true},
                {"esdb://", true, true},
                {"esdb+discover://", true, true},
        };

        for (size_t i = 0; i < COUNT_OF(schemes); i++) {
                *ret_size = strlen(schemes[i].name);
                *ret_is_tls = schemes[i].is_tls;
                *ret_is_kurrent = schemes[i].is_kurrent;
                if (strncasecmp(url, schemes[i].name, *ret_size) == 0)
                        return true;
        }
        return false;
}

bool address_parse(const char *url, struct address *ret, char problem[NILO_CLIENT_PROBLEM_SIZE])
{
        struct bytes rest;
        struct bytes authority;
        struct bytes options;
        struct bytes path;
        const uint8_t *at;
        size_t size;
        bool is_kurrent;

        *ret = (struct address){0};
        *problem = 0;
        if (strnlen(url, ADDRESS_SIZE_MAX) == ADDRESS_SIZE_MAX ||
                !scheme_of(url, &ret->is_tls, &is_kurrent, &size)) {
                snprintf(problem, NILO_CLIENT_PROBLEM_SIZE,
                        "a URL begins with http://, https:// or kurrentdb:// (such as "
                        "http://127.0.0.1:2113)");
                return false;
        }
        rest = bytes_of_string(url + size);
        authority = before(rest, '?');
        options = behind(rest, authority);
        /* It may be the end of a password, which is not to be shown. */
        if (options.size && memchr(options.data, '@', options.size)) {
                snprintf(problem, NILO_CLIENT_PROBLEM_SIZE,
                        "\"@\" behind \"?\": write ? in a password as %%3F");
                return false;
        }
        if (!is_kurrent && options.size) {
                snprintf(problem, NILO_CLIENT_PROBLEM_SIZE, "options behind \"?\" are for kurrentdb:// only");
                return false;
        }
        while (options.size) {
                struct bytes option = before(options, '&');

                if (option.size && !parse_option(ret, option, problem))
                        return false;
                options = behind(options, option);
        }
        path = authority;
        authority = before(authority, '/');
        path = bytes_of(path.data + authority.size, path.size - authority.size);
        if (is_kurrent && path.size > 1) {
                snprintf(problem, NILO_CLIENT_PROBLEM_SIZE, "a connection string has no path");
                return false;
        }
        /* The last one ends the user: a password that was not escaped may have others. */
        at = memrchr(authority.data, '@', authority.size);
        if (at && !parse_user(ret, bytes_of(authority.data, (size_t)(at - authority.data)))) {
                snprintf(problem, NILO_CLIENT_PROBLEM_SIZE,
                        "before \"@\" stands user:password, with %%-escapes for signs that URLs use");
                return false;
        }
        if (at)
                authority = bytes_of(at + 1, authority.size - (size_t)(at + 1 - authority.data));
        do {
                struct bytes host = is_kurrent ? before(authority, ',') : authority;

                if (!add_host(ret, host, is_kurrent, path, problem))
                        return false;
                authority = behind(authority, host);
        } while (authority.size);
        return true;
}

/* What strangers send to be let in, and what the log says of users and rights: tokens, Basic credentials,
 * bodies of users, ACLs. The first byte chooses.
 *
 * Oracles: a token that is taken is the only text of its claims, and none of another key; credentials that
 * are taken encode to the same text again; a user who is read is written and read again as the same; an ACL
 * is one exactly when a tree of it says so.
 *
 * Links: base os model control tls persistence cluster store notification access */
#include <stdlib.h>

#include <jansson.h>

#include "access/room.h"
#include "base/base64.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct bytes key = {(const uint8_t *)"0123456789abcdef0123456789abcdef", 32};
static const struct bytes other_key = {(const uint8_t *)"0123456789abcdef0123456789abcdeg", 32};

static void require(bool is_true)
{
        if (!is_true)
                abort();
}

static void check_token(struct bytes text)
{
        CLEANUP(buffer_fini) struct buffer memory = {0};
        CLEANUP(buffer_fini) struct buffer again = {0};
        struct token_claims claims;

        if (token_parse(text, key, &memory, &claims)) {
                token_format(&claims, key, &again);
                require(bytes_equal(buffer_bytes(&again), text));
        }
        require(!token_parse(text, other_key, &memory, &claims));
}

/* Any claims make a token that is taken, until a bit of it is turned. */
static void check_claims(struct bytes data)
{
        CLEANUP(buffer_fini) struct buffer token = {0};
        CLEANUP(buffer_fini) struct buffer memory = {0};
        struct token_claims claims = {0}, got;
        unsigned bit;

        if (data.size < 19)
                return;
        bit = data.data[0] | (unsigned)data.data[1] << 8;
        claims.expires_s = get_u64(data.data + 2);
        claims.generation = get_u64(data.data + 10);
        claims.login = bytes_of(data.data + 18, MIN(data.size - 18, (size_t)ACCESS_LOGIN_SIZE_MAX));
        token_format(&claims, key, &token);
        require(token_parse(buffer_bytes(&token), key, &memory, &got));
        require(got.expires_s == claims.expires_s && got.generation == claims.generation &&
                bytes_equal(got.login, claims.login));
        token.data[bit / 8 % token.size] ^= (uint8_t)(1u << bit % 8);
        require(!token_parse(buffer_bytes(&token), key, &memory, &got));
}

static void check_basic(struct bytes text)
{
        CLEANUP(buffer_fini) struct buffer memory = {0};
        CLEANUP(buffer_fini) struct buffer whole = {0};
        CLEANUP(buffer_fini) struct buffer again = {0};
        struct bytes login, password;

        if (!basic_parse(text, &memory, &login, &password))
                return;
        require(login.size && login.size <= ACCESS_LOGIN_SIZE_MAX &&
                password.size <= ACCESS_PASSWORD_SIZE_MAX);
        require(!memchr(login.data, ':', login.size) && !memchr(login.data, 0, login.size) &&
                login.data[0] != '$');
        buffer_add_bytes(&whole, login);
        buffer_add_u8(&whole, ':');
        buffer_add_bytes(&whole, password);
        base64_encode(&again, buffer_bytes(&whole));
        while (text.size && text.data[text.size - 1] == '=')
                text.size--;
        require(bytes_starts_with(buffer_bytes(&again), bytes_of(text.data, text.size / 4 * 4)));
}

static void check_user(struct bytes body)
{
        CLEANUP(buffer_fini) struct buffer text = {0};
        struct user *u = NULL, *again = NULL;
        struct user_fields f;

        if (!user_parse(body, BYTES_LITERAL("ann"), 7, 1, &u))
                return;
        require(u->group_count <= ACCESS_GROUPS_MAX && u->generation <= 7);
        (void)hash_is_usable(u->hash);
        f = (struct user_fields){.login = u->login,
                .full_name = u->full_name,
                .groups = u->groups,
                .group_count = u->group_count,
                .hash = u->hash,
                .is_disabled = u->is_disabled,
                .has_generation = true,
                .generation = u->generation};
        user_to_json(&f, &text);
        require(user_parse(buffer_bytes(&text), BYTES_LITERAL("ann"), 7, 1, &again));
        require(bytes_equal(u->full_name, again->full_name) && u->group_count == again->group_count &&
                strcmp(u->hash, again->hash) == 0 && u->is_disabled == again->is_disabled);
        user_free(&u);
        user_free(&again);
}

static bool is_right(const json_t *value)
{
        if (!value || json_is_null(value))
                return true;
        if (json_is_string(value))
                return json_string_length(value) <= ACL_NAME_SIZE_MAX;
        if (!json_is_array(value) || json_array_size(value) > ACL_NAMES_MAX)
                return false;
        for (size_t i = 0; i < json_array_size(value); i++)
                if (!json_is_string(json_array_get(value, i)) ||
                        json_string_length(json_array_get(value, i)) > ACL_NAME_SIZE_MAX)
                        return false;
        return true;
}

/* Against a tree; texts that jansson reads in its own way (depth, large numbers, NUL, members twice) are left
 * out. */
static void compare_acl(const json_t *body, int outcome, const struct acl *acl)
{
        static const char *const keys[] = {"$r", "$w", "$d", "$mr", "$mw"};
        const json_t *said = json_object_get(body, "$acl");
        bool is_fine = !said || json_is_null(said) || json_is_object(said);

        for (unsigned i = 0; is_fine && i < ACL_RIGHTS; i++) {
                const json_t *right = json_object_get(said, keys[i]);

                is_fine = is_right(right);
                if (outcome || !is_fine)
                        continue;
                require(acl_has(acl, i) == (right && !json_is_null(right)));
                if (!acl_has(acl, i))
                        continue;
                require(acl_count(acl, i) == (json_is_string(right) ? 1 : json_array_size(right)));
                for (unsigned k = 0; k < acl_count(acl, i); k++) {
                        const json_t *name = json_is_string(right) ? right : json_array_get(right, k);

                        require(bytes_equal(acl_name(acl, i, k),
                                bytes_of(json_string_value(name), json_string_length(name))));
                }
        }
        require(is_fine == (outcome == 0));
}

static bool is_comparable(struct bytes text)
{
        unsigned opened = 0;

        if (text.size >= ACL_SIZE_MAX || memchr(text.data, 0, text.size))
                return false;
        for (size_t i = 0; i < text.size; i++)
                opened += text.data[i] == '[' || text.data[i] == '{';
        return opened <= 200;
}

static void check_acl(struct bytes body)
{
        struct acl *acl = NULL, *user = NULL, *system = NULL;
        json_t *tree = is_comparable(body) ? json_loadb((const char *)body.data, body.size,
                                                     JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL)
                                           : NULL;
        int outcome = acl_of_metadata(body, &acl);

        require(outcome == 0 || (outcome == ACL_UNREADABLE && !acl));
        if (json_is_object(tree))
                compare_acl(tree, outcome, acl);
        (void)acl_size(acl);
        outcome = acl_of_settings(body, &user, &system);
        require(outcome == 0 || (!user && !system));
        acl_free(&acl);
        acl_free(&user);
        acl_free(&system);
        json_decref(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct bytes rest;

        if (size < 2)
                return 0;
        rest = bytes_of(data + 1, size - 1);
        switch (data[0] % 5) {
        case 0:
                check_token(rest);
                break;
        case 1:
                check_claims(rest);
                break;
        case 2:
                check_basic(rest);
                break;
        case 3:
                check_user(rest);
                break;
        default:
                check_acl(rest);
                break;
        }
        return 0;
}

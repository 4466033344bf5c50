/* Who may do what with a stream: "$acl" of a metadata body, and the defaults in a `$settings` body (protocol 3.5).
 *
 * Each right is a string or an array of strings: logins or groups, or "$all" for every user. What is absent (or null) is
 * not said. A body that says something about rights and cannot be read is refused as a whole, where limits (stream_metadata.h)
 * count as empty: to take a rule for none would open what somebody wanted to close. */
#ifndef MODEL_ACL_H
#define MODEL_ACL_H

#include "base/bytes.h"

enum {
        ACL_SIZE_MAX = 64 * 1024,   /* of one "$acl" as it stands; a larger one cannot be read */
        ACL_NAME_SIZE_MAX = 256,    /* of a login or group in it */
        ACL_NAMES_MAX = 1000,       /* for one right */
};

/* In the order of "$r", "$w", "$d", "$mr", "$mw". */
enum acl_right { ACL_READ, ACL_WRITE, ACL_DELETE, ACL_META_READ, ACL_META_WRITE, ACL_RIGHTS };

struct acl; /* immutable */

enum acl_outcome { ACL_UNREADABLE = 1 };

/* Of a metadata body, which may be empty. *ret is NULL where there is none; ACL_UNREADABLE: neither JSON nor an ACL. */
MUST_CHECK int acl_of_metadata(struct bytes json, struct acl **ret);
/* Of a `$settings` body: "$userStreamAcl" and "$systemStreamAcl"; each as above. Nothing is given with ACL_UNREADABLE. */
MUST_CHECK int acl_of_settings(struct bytes json, struct acl **ret_user, struct acl **ret_system);

bool acl_has(const struct acl *acl, enum acl_right right); /* something is said about it, if only "nobody"; false for NULL */
unsigned acl_count(const struct acl *acl, enum acl_right right);
struct bytes acl_name(const struct acl *acl, enum acl_right right, unsigned i);
size_t acl_size(const struct acl *acl); /* in memory, about; 0 for NULL */
void acl_free(struct acl **acl);        /* NULL is fine */

#endif

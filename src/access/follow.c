/* What is remembered of the log follows it: a subscription to the streams of users, settings, the key and
 * metadata drops what has changed. While it cannot be had nothing is remembered, and the log is read each
 * time. Only where rights are enforced. */
#include "access/room.h"

enum { ITEMS_PER_TURN = 500 };
#define REOPEN_US ((uint64_t)100 * 1000)

static void forget_everything(struct access *a)
{
        memo_clear(&a->users);
        memo_clear(&a->credentials);
        memo_clear(&a->rights);
        rights_drop_settings(a);
        a->key.is_known = false;
        a->generation++;
}

static void user_changed(struct access *a, struct bytes login)
{
        struct memo_entry *entry = memo_get(&a->users, login);

        if (entry)
                memo_drop(&a->users, entry);
        logins_forget(a, login);
        a->generation++;
}

void follow_user_changed(struct access *a, struct bytes login)
{
        user_changed(a, login);
}

static void publish_rights(struct access *a, struct bytes stream)
{
        struct fact_payload payload = {0};

        fact_set_stream(&payload, stream, name_hash(stream));
        control_publish(a->control, FACT_rights_changed, &payload);
}

static void metadata_changed(struct access *a, const struct event_view *event)
{
        struct bytes stream = stream_of_meta(event->stream);
        struct acl *acl = NULL;
        bool was_said = rights_are_said(a, stream);

        rights_drop(a, stream);
        /* A user is removed by the metadata of his stream. */
        if (bytes_starts_with(stream, USER_PREFIX))
                user_changed(a, bytes_of(stream.data + USER_PREFIX.size, stream.size - USER_PREFIX.size));
        if (bytes_equal(stream, KEY_STREAM) || bytes_equal(stream, SETTINGS_STREAM))
                forget_everything(a);
        if (acl_of_metadata(event->data, &acl) || acl || was_said) {
                a->generation++;
                publish_rights(a, stream);
        }
        acl_free(&acl);
}

static void take(struct access *a, const struct event_view *event)
{
        if (stream_is_meta(event->stream)) {
                metadata_changed(a, event);
        } else if (bytes_starts_with(event->stream, USER_PREFIX)) {
                user_changed(a, bytes_of(event->stream.data + USER_PREFIX.size,
                                        event->stream.size - USER_PREFIX.size));
        } else if (bytes_equal(event->stream, SETTINGS_STREAM)) {
                rights_drop_settings(a);
                a->generation++;
                publish_rights(a, event->stream);
        } else if (bytes_equal(event->stream, KEY_STREAM)) {
                forget_everything(a);
        }
}

static void broken(struct access *a)
{
        subscription_close(&a->subscription);
        a->is_following = false;
        forget_everything(a);
        os_timer_start(a->os, &a->reopen, REOPEN_US);
}

static void pull(struct access *a)
{
        struct subscription_item item;
        int r = 0;

        for (unsigned n = 0; !r && n < ITEMS_PER_TURN; n++) {
                r = subscription_next(a->subscription, &item);
                if (!r && item.kind == ITEM_EVENT && item.event.has_event)
                        take(a, &item.event.event);
        }
        if (!r || r == SUBSCRIPTION_YIELD)
                os_timer_start(a->os, &a->again, 0);
        else if (r != SUBSCRIPTION_WAIT)
                broken(a);
        else
                subscription_ease(a->subscription);
}

static void on_readable(void *arg)
{
        pull(arg);
}

static void on_again(struct os_timer *timer)
{
        pull(timer->arg);
}

static int follow_open(struct access *a)
{
        static const char *const prefixes[] = {"$user-", "$settings", "$nilo-access", "$$"};
        struct bytes names[COUNT_OF(prefixes)];
        struct filter_options filter = {
                .target = FILTER_STREAM, .prefixes = names, .prefix_count = COUNT_OF(prefixes)};
        struct subscription_options options = {
                .from = FROM_END, .name = BYTES_LITERAL("access"), .on_readable = on_readable, .arg = a};
        char why[256];
        int r;

        for (unsigned i = 0; i < COUNT_OF(prefixes); i++)
                names[i] = bytes_of_string(prefixes[i]);
        r = filter_new(&filter, &options.filter, why, sizeof why);
        assert(r == 0);
        return subscription_open(a->notification, &options, &a->subscription);
}

static void on_reopen(struct os_timer *timer)
{
        struct access *a = timer->arg;

        if (!a->notification)
                return;
        if (follow_open(a)) {
                os_timer_start(a->os, &a->reopen, REOPEN_US);
                return;
        }
        forget_everything(a);
        a->is_following = true;
        pull(a);
}

void follow_start(struct access *a)
{
        a->reopen = (struct os_timer){.fn = on_reopen, .arg = a};
        a->again = (struct os_timer){.fn = on_again, .arg = a};
        on_reopen(&a->reopen);
}

void follow_stop(struct access *a)
{
        os_timer_stop(&a->reopen);
        os_timer_stop(&a->again);
        subscription_close(&a->subscription);
        a->is_following = false;
        forget_everything(a);
}

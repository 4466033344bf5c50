/* ServerFeatures/GetSupportedMethods: what clients choose by. The list is that of the gateway, so that
 * exactly what works is announced. It must answer even while the store opens: some clients take any other
 * answer for a broken server. */
#include "kurrent/room.h"
#include "kurrent/server_features.pb-c.h"

/* The server whose protocol this is, as far as the list says: three numbers, since clients compare them. Not
 * const for the generated code, which does not write to it. */
static char version[] = "26.1.0";

enum { METHODS_LISTED_MAX = 64, FEATURES_MAX = 8 };

typedef EventStore__Client__ServerFeatures__SupportedMethod supported_method;

struct listing {
        struct arena *arena;
        supported_method *methods[METHODS_LISTED_MAX];
        unsigned count;
};

/* Clients look the names up in lower case. */
static char *lower_case(struct arena *arena, const char *text)
{
        char *lower = arena_string(arena, bytes_of_string(text));

        for (char *at = lower; *at; at++)
                if (*at >= 'A' && *at <= 'Z')
                        *at = (char)(*at - 'A' + 'a');
        return lower;
}

static void add_features(struct arena *arena, supported_method *m, const char *features)
{
        m->features = arena_get(arena, FEATURES_MAX * sizeof(*m->features));
        while (*features) {
                size_t size = strcspn(features, " ");

                assert(m->n_features < FEATURES_MAX);
                m->features[m->n_features++] = arena_string(arena, bytes_of(features, size));
                features += size;
                features += strspn(features, " ");
        }
}

static void add_method(void *arg, const struct gateway_method *method)
{
        struct listing *l = arg;
        supported_method *m = arena_get(l->arena, sizeof(*m));

        assert(l->count < METHODS_LISTED_MAX);
        event_store__client__server_features__supported_method__init(m);
        m->service_name = lower_case(l->arena, method->service);
        m->method_name = lower_case(l->arena, method->name);
        add_features(l->arena, m, method->features);
        l->methods[l->count++] = m;
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        struct listing listing = {.arena = gateway_arena(call)};
        EventStore__Client__ServerFeatures__SupportedMethods answer;

        (void)message; /* empty, whatever is in it */
        gateway_each_method(k->gateway, add_method, &listing);
        event_store__client__server_features__supported_methods__init(&answer);
        answer.n_methods = listing.count;
        answer.methods = listing.methods;
        answer.event_store_server_version = version;
        message_answer(call, &answer.base);
}

void features_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = "event_store.client.server_features.ServerFeatures",
                .name = "GetSupportedMethods",
                .features = "",
                .access = ACCESS_ANYONE,
                .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                .when_not_ready = true,
                .on_message = on_message,
        };
}

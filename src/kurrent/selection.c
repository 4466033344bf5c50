#include "kurrent/selection.h"

const char *selection_of_name(const EventStore__Client__StreamIdentifier *name, struct bytes *ret)
{
        if (!name)
                return "stream_identifier is missing";
        *ret = bytes_of_message(name->stream_name);
        if (!stream_name_is_valid(*ret))
                return "the stream name is invalid: 1 to 1024 bytes of UTF-8 without NUL, and not $all";
        return NULL;
}

/* Older clients mean the end by all ones. */
const char *selection_of_revision(uint64_t revision, struct selection *ret)
{
        ret->from = revision == UINT64_MAX ? FROM_END : FROM_NUMBER;
        ret->number = revision;
        return ret->from == FROM_NUMBER && revision > REVISION_MAX ? "the revision is above 2^63-1" : NULL;
}

const char *selection_of_position(uint64_t position, struct selection *ret)
{
        ret->from = position == UINT64_MAX ? FROM_END : FROM_NUMBER;
        ret->number = position;
        return ret->from == FROM_NUMBER && position > (uint64_t)INT64_MAX ? "the position is above 2^63-1"
                                                                          : NULL;
}

const char *selection_of_stream(
        const EventStore__Client__Streams__ReadReq__Options__StreamOptions *o, struct selection *ret)
{
        const char *problem = selection_of_name(o->stream_identifier, &ret->stream);

        if (problem)
                return problem;
        switch (o->revision_option_case) {
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTIONS__REVISION_OPTION_REVISION:
                return selection_of_revision(o->revision, ret);
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTIONS__REVISION_OPTION_START:
                ret->from = FROM_START;
                return NULL;
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTIONS__REVISION_OPTION_END:
                ret->from = FROM_END;
                return NULL;
        default:
                return "revision_option is missing";
        }
}

const char *selection_of_all(
        const EventStore__Client__Streams__ReadReq__Options__AllOptions *o, struct selection *ret)
{
        switch (o->all_option_case) {
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__ALL_OPTIONS__ALL_OPTION_POSITION:
                return selection_of_position(o->position->commit_position, ret);
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__ALL_OPTIONS__ALL_OPTION_START:
                ret->from = FROM_START;
                return NULL;
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__ALL_OPTIONS__ALL_OPTION_END:
                ret->from = FROM_END;
                return NULL;
        default:
                return "all_option is missing";
        }
}

/* A filter that names an index of KurrentDB; there are none here, and to find nothing would be a wrong
 * answer. */
static bool is_index(const struct filter_options *o)
{
        return o->target == FILTER_STREAM && !o->regex.size && o->prefix_count == 1 &&
               bytes_starts_with(o->prefixes[0], BYTES_LITERAL("$idx-"));
}

bool selection_filter(const EventStore__Client__Streams__ReadReq__Options__FilterOptions *f,
        struct arena *arena, struct filter_options *ret, struct refusal *ret_refusal)
{
        const EventStore__Client__Streams__ReadReq__Options__FilterOptions__Expression *expression;
        struct bytes *prefixes;

        if (f->filter_case ==
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTIONS__FILTER__NOT_SET) {
                *ret_refusal = refusal_invalid("the filter names neither streams nor types");
                return false;
        }
        expression = f->stream_identifier; /* both lie at the same place */
        if (expression->n_prefix > LIMIT_FILTER_PREFIXES_MAX) {
                *ret_refusal = refusal_invalid("the filter has too many prefixes");
                ret_refusal->limit = LIMIT_FILTER_PREFIXES_MAX;
                return false;
        }
        prefixes = arena_get(arena, expression->n_prefix * sizeof(*prefixes));
        for (size_t i = 0; i < expression->n_prefix; i++)
                prefixes[i] = bytes_of_message(expression->prefix[i]);
        *ret = (struct filter_options){
                .target =
                        f->filter_case ==
                                        EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTIONS__FILTER_EVENT_TYPE
                                ? FILTER_TYPE
                                : FILTER_STREAM,
                .regex = bytes_of_message(expression->regex),
                .prefixes = prefixes,
                .prefix_count = (unsigned)expression->n_prefix,
        };
        if (is_index(ret)) {
                *ret_refusal = (struct refusal){.kind = REFUSAL_INDEX_MISSING, .stream = prefixes[0]};
                return false;
        }
        return true;
}

struct bytes selection_client_name(struct gateway_request *call)
{
        enum { CLIENT_NAME_SIZE_MAX = 256 };
        struct bytes name = BYTES_EMPTY;

        gateway_header(call, "connection-name", &name);
        name.size = MIN(name.size, (size_t)CLIENT_NAME_SIZE_MAX);
        return name;
}

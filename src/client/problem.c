/* The type of a problem names its result exactly; without one, the status does. */
#include "client/problem.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

enum { TEXT_SIZE_MAX = 4096 };

void problem_text(struct buffer *to, const char *format, ...)
{
        char text[TEXT_SIZE_MAX];
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        buffer_clear(to);
        buffer_add(to, text, strlen(text) + 1);
}

static enum nilo_result result_of_status(long status)
{
        switch (status) {
        case 400:
        case 405:
        case 406:
        case 415:
        case 422:
                return NILO_INVALID;
        case 401:
        case 403:
                return NILO_DENIED;
        case 404:
                return NILO_NOT_FOUND;
        case 409:
        case 412:
                return NILO_CONFLICT;
        case 410:
                return NILO_DELETED;
        case 413:
        case 414:
        case 431:
                return NILO_TOO_LARGE;
        case 429:
                return NILO_BUSY;
        case 502:
        case 503:
                return NILO_UNAVAILABLE;
        case 408:
        case 504:
                return NILO_UNKNOWN;
        case 507:
                return NILO_FULL;
        default:
                return NILO_ERROR;
        }
}

static enum nilo_result result_of_type(const char *type, enum nilo_result otherwise)
{
        static const struct {
                const char *type;
                enum nilo_result result;
        } types[] = {
                {"urn:nilo:conflict", NILO_CONFLICT},
                {"urn:nilo:busy", NILO_BUSY},
                {"urn:nilo:corrupt", NILO_CORRUPT},
                {"urn:nilo:unknown", NILO_UNKNOWN},
                {"urn:nilo:disk-full", NILO_FULL},
                {"urn:nilo:not-ready", NILO_UNAVAILABLE},
                {"urn:nilo:not-here-yet", NILO_UNAVAILABLE},
        };

        for (size_t i = 0; type && i < COUNT_OF(types); i++)
                if (strcmp(types[i].type, type) == 0)
                        return types[i].result;
        return otherwise;
}

enum nilo_result problem_read(
        long status, struct bytes body, struct buffer *detail, struct buffer *next, int64_t *ret_actual)
{
        json_t *json = body.size ? json_loadb((const char *)body.data, body.size, 0, NULL) : NULL;
        const char *text = json_string_value(json_object_get(json, "detail"));
        const char *title = json_string_value(json_object_get(json, "title"));
        const char *step = json_string_value(json_object_get(json, "next"));
        const char *type = json_string_value(json_object_get(json, "type"));
        const json_t *actual = json_object_get(json, "actual");
        enum nilo_result result = result_of_type(type, result_of_status(status));

        if (text)
                problem_text(detail, "%s", text);
        else
                problem_text(detail, "the server answered with status %ld%s%s", status, title ? ": " : "",
                        title ? title : "");
        problem_text(next, "%s", step ? step : "");
        *ret_actual = json_is_integer(actual) ? (int64_t)json_integer_value(actual) : -1;
        json_decref(json);
        return result;
}

/* What http_parser leaves open as it is installed (not in its strict mode), and this file closes, since two
 * readers of one connection must never disagree about where a request ends (request smuggling):
 *
 * - lines end with CR LF, nothing else; no other control characters anywhere in the head;
 * - method, target and version are separated by one space each; names of headers are tokens, so no space
 * before a colon;
 * - no folded headers; exactly one Host in HTTP/1.1, and it is well-formed;
 * - Content-Length and Transfer-Encoding exclude each other, each comes once, a length is digits only, and
 * the only coding is "chunked";
 * - HTTP/1.0 has no Transfer-Encoding. */
#include "gateway/h1_head.h"

#include <http_parser.h>
#include <strings.h>

struct parse {
        struct h1_head *head;
        bool is_in_value;
        bool is_head_done;
        bool is_message_done;
};

size_t h1_head_end(struct bytes data, int *ret_status)
{
        size_t line = 0; /* where the current line begins */

        *ret_status = 0;
        for (size_t i = 0; i < data.size;) {
                const uint8_t *lf = memchr(data.data + i, '\n', data.size - i);

                if (!lf)
                        break;
                i = (size_t)(lf - data.data) + 1;
                if (i < 2 || data.data[i - 2] != '\r') {
                        *ret_status = 400;
                        return data.size;
                }
                if (line == 0 && i > H1_LINE_SIZE_MAX) {
                        *ret_status = 414;
                        return data.size;
                }
                if (i - line == 2 && line > 0) {
                        if (i > H1_HEAD_SIZE_MAX)
                                *ret_status = 431;
                        return i;
                }
                line = i;
        }
        if (line == 0 && data.size > H1_LINE_SIZE_MAX)
                *ret_status = 414;
        else if (data.size > H1_HEAD_SIZE_MAX)
                *ret_status = 431;
        return *ret_status ? data.size : 0;
}

/* ---- http_parser's callbacks ---- */

static int on_url(http_parser *parser, const char *at, size_t size)
{
        struct parse *p = parser->data;

        if (p->head->target.size)
                p->head->target.size += size;
        else
                p->head->target = bytes_of(at, size);
        return 0;
}

static int on_field(http_parser *parser, const char *at, size_t size)
{
        struct parse *p = parser->data;
        struct h1_head *head = p->head;

        if (p->is_in_value || head->field_count == 0) {
                if (head->field_count == H1_HEADERS_MAX) {
                        head->status = 431;
                        head->problem = "there are too many headers";
                        return 1;
                }
                head->fields[head->field_count++] = (struct h1_field){.name = bytes_of(at, size)};
                p->is_in_value = false;
        } else {
                head->fields[head->field_count - 1].name.size += size;
        }
        return 0;
}

static int on_value(http_parser *parser, const char *at, size_t size)
{
        struct parse *p = parser->data;
        struct h1_field *field;

        assert(p->head->field_count > 0);
        field = &p->head->fields[p->head->field_count - 1];
        if (p->is_in_value)
                field->value.size += size;
        else
                field->value = bytes_of(at, size);
        p->is_in_value = true;
        return 0;
}

static int on_headers_complete(http_parser *parser)
{
        struct parse *p = parser->data;

        p->is_head_done = true;
        /* An offer to change the protocol is declined by going on. */
        parser->upgrade = 0;
        return 0;
}

static int on_message_complete(http_parser *parser)
{
        struct parse *p = parser->data;

        p->is_message_done = true;
        return 0;
}

static const struct http_parser_settings settings = {
        .on_url = on_url,
        .on_header_field = on_field,
        .on_header_value = on_value,
        .on_headers_complete = on_headers_complete,
        .on_message_complete = on_message_complete,
};

/* ---- our own checks ---- */

static bool refuse(struct h1_head *head, int status, const char *problem)
{
        head->status = status;
        head->problem = problem;
        return false;
}

static bool check_lines(struct h1_head *head, const uint8_t *data, size_t size)
{
        for (size_t i = 0; i < size; i++) {
                uint8_t c = data[i];

                if (c == '\r' && i + 1 < size && data[i + 1] == '\n') {
                        i++;
                        if (i + 1 < size && (data[i + 1] == ' ' || data[i + 1] == '\t'))
                                return refuse(head, 400, "a header is folded over several lines");
                        continue;
                }
                if ((c < 0x20 && c != '\t') || c == 0x7f)
                        return refuse(head, 400, "the head contains a control character");
        }
        return true;
}

static bool is_host_character(uint8_t c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               memchr("-._~:[]%!$&'()*+,;=", c, 19);
}

/* A token (RFC 9110 section 5.6.2). */
static bool is_token(struct bytes b)
{
        for (size_t i = 0; i < b.size; i++) {
                uint8_t c = b.data[i];

                if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
                        !memchr("!#$%&'*+-.^_`|~", c, 15))
                        return false;
        }
        return b.size > 0;
}

static bool is_number(struct bytes b)
{
        for (size_t i = 0; i < b.size; i++)
                if (b.data[i] < '0' || b.data[i] > '9')
                        return false;
        return b.size > 0;
}

static bool equal_ignoring_case(struct bytes a, const char *b)
{
        return a.size == strlen(b) && strncasecmp((const char *)a.data, b, a.size) == 0;
}

static struct bytes trim(struct bytes b)
{
        while (b.size && (b.data[b.size - 1] == ' ' || b.data[b.size - 1] == '\t'))
                b.size--;
        while (b.size && (b.data[0] == ' ' || b.data[0] == '\t')) {
                b.data++;
                b.size--;
        }
        return b;
}

static bool check_fields(struct h1_head *head)
{
        unsigned hosts = 0, lengths = 0, encodings = 0;

        for (unsigned i = 0; i < head->field_count; i++) {
                struct h1_field *field = &head->fields[i];

                if (!is_token(field->name))
                        return refuse(head, 400, "the name of a header is malformed");
                field->value = trim(field->value);
                if (bytes_equal_string(field->name, "host")) {
                        hosts++;
                        head->host = field->value;
                        for (size_t k = 0; k < field->value.size; k++)
                                if (!is_host_character(field->value.data[k]))
                                        return refuse(head, 400, "the Host header is malformed");
                } else if (bytes_equal_string(field->name, "content-length")) {
                        lengths++;
                        if (!is_number(field->value))
                                return refuse(head, 400, "the Content-Length is no number");
                } else if (bytes_equal_string(field->name, "transfer-encoding")) {
                        encodings++;
                        if (!equal_ignoring_case(field->value, "chunked"))
                                return refuse(
                                        head, 501, "the only transfer coding that is understood is chunked");
                } else if (bytes_equal_string(field->name, "expect")) {
                        if (!equal_ignoring_case(field->value, "100-continue"))
                                return refuse(
                                        head, 417, "the only expectation that is understood is 100-continue");
                        head->expects_continue = !head->is_http10; /* which knows no interim answers */
                }
        }
        if (lengths && encodings)
                return refuse(head, 400, "Content-Length and Transfer-Encoding exclude each other");
        if (lengths > 1 || encodings > 1)
                return refuse(head, 400, "the length of the body is given more than once");
        if (encodings && head->is_http10)
                return refuse(head, 400, "HTTP/1.0 has no Transfer-Encoding");
        if (hosts > 1 || (hosts == 0 && !head->is_http10))
                return refuse(head, 400, "there must be exactly one Host header");
        head->is_chunked = encodings > 0;
        return true;
}

/* The size of "http://" or "https://" at the beginning of a target; 0 for none. */
static size_t scheme_size(struct bytes target)
{
        static const char *const schemes[] = {"http://", "https://"};

        for (unsigned i = 0; i < COUNT_OF(schemes); i++) {
                size_t size = strlen(schemes[i]);

                if (target.size > size && strncasecmp((const char *)target.data, schemes[i], size) == 0)
                        return size;
        }
        return 0;
}

/* "http://host/path" becomes "/path", as proxies write it. */
static bool take_target(struct h1_head *head)
{
        struct bytes target = head->target;
        size_t scheme = scheme_size(target);
        const uint8_t *slash;

        if (target.size && target.data[0] == '/')
                return true;
        if (bytes_equal_string(target, "*"))
                return true;
        if (scheme) {
                slash = memchr(target.data + scheme, '/', target.size - scheme);
                if (!slash)
                        return refuse(head, 400, "the request target has no path");
                head->host = bytes_of(target.data + scheme, (size_t)(slash - target.data) - scheme);
                head->target = bytes_of(slash, target.size - (size_t)(slash - target.data));
                return true;
        }
        return refuse(head, 400, "the request target is no path");
}

static bool refuse_as_parsed(struct h1_head *head, enum http_errno error)
{
        switch (error) {
        case HPE_INVALID_METHOD:
                return refuse(head, 501, "the method is unknown");
        case HPE_INVALID_VERSION:
                return refuse(head, 505, "the version is not HTTP/1.0 or HTTP/1.1");
        case HPE_HEADER_OVERFLOW:
                return refuse(head, 431, "the head is too large");
        default:
                return refuse(head, 400, http_errno_description(error));
        }
}

/* "GET /path HTTP/1.1": the parser also takes more spaces, and targets with bytes that belong in none. */
static bool check_request_line(struct h1_head *head, const uint8_t *data, size_t size)
{
        const uint8_t *end = memchr(data, '\r', size);
        const uint8_t *space = memchr(data, ' ', size);
        const uint8_t *at = head->target.data + head->target.size;

        if (!end || !space || space + 1 != head->target.data || at >= end || at[0] != ' ' ||
                memchr(at + 1, ' ', (size_t)(end - at) - 1))
                return refuse(head, 400, "the request line is malformed");
        for (size_t i = 0; i < head->target.size; i++)
                if (head->target.data[i] <= ' ' || head->target.data[i] >= 0x7f)
                        return refuse(
                                head, 400, "the request target has a byte that must be percent-encoded");
        head->method = bytes_of(data, (size_t)(space - data));
        return true;
}

static void lower_names(struct h1_head *head, uint8_t *data)
{
        for (unsigned i = 0; i < head->field_count; i++) {
                uint8_t *name = data + (head->fields[i].name.data - data);

                for (size_t k = 0; k < head->fields[i].name.size; k++)
                        if (name[k] >= 'A' && name[k] <= 'Z')
                                name[k] |= 0x20;
        }
}

bool h1_head_parse(uint8_t *data, size_t size, struct h1_head *ret)
{
        struct parse p = {.head = ret};
        struct http_parser parser;
        enum http_errno error;
        size_t used;

        *ret = (struct h1_head){.status = 0};
        if (!check_lines(ret, data, size))
                return false;
        http_parser_init(&parser, HTTP_REQUEST);
        parser.data = &p;
        used = http_parser_execute(&parser, &settings, (const char *)data, size);
        error = HTTP_PARSER_ERRNO(&parser);
        if (ret->status)
                return false;
        if (error != HPE_OK)
                return refuse_as_parsed(ret, error);
        if (used != size || !p.is_head_done)
                return refuse(ret, 400, "the head is malformed");
        if (parser.http_major != 1 || parser.http_minor > 1)
                return refuse(ret, 505, "the version is not HTTP/1.0 or HTTP/1.1");
        if (parser.method == HTTP_CONNECT)
                return refuse(ret, 501, "this is no proxy");
        lower_names(ret, data);
        ret->is_http10 = parser.http_minor == 0;
        if (!check_request_line(ret, data, size) || !check_fields(ret) || !take_target(ret))
                return false;
        ret->is_keep_alive = http_should_keep_alive(&parser);
        ret->has_body = !p.is_message_done;
        ret->body_size = ret->has_body && !ret->is_chunked ? parser.content_length : 0;
        return true;
}

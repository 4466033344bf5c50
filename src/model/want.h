/* A JSON value that an event must have: read from a selection, written in one form, matched. */
#ifndef MODEL_WANT_H
#define MODEL_WANT_H

#include "base/arena.h"
#include "base/json_in.h"
#include "base/json_out.h"
#include "model/selector.h"

enum want_kind { WANT_OBJECT, WANT_ARRAY, WANT_STRING, WANT_NUMBER, WANT_WORD };

struct want {
        struct bytes key;       /* of a member */
        struct bytes text;      /* of a string, a word; digits of a number */
        int64_t point;          /* of a number: it is 0.DIGITS times ten to this power */
        struct want **children; /* of an object, by key; of an array, in order */
        unsigned count;
        uint8_t kind;
        bool is_negative;
        bool is_matched;        /* a member, in the object at hand */
        const uint8_t *at;      /* where it began, while it is read: for messages */
};

struct want_parser {
        struct json_in in;
        struct arena *arena; /* where everything goes */
};

/* The next value; `depth`: containers around it. False: `in` says what is wrong. */
MUST_CHECK bool want_parse(struct want_parser *p, unsigned depth, struct want **ret);
void want_write(struct json_out *j, const struct want *w);
struct want *want_child(const struct want *object, struct bytes key); /* NULL: none */
/* Whether the text is a JSON object that has what `object` has. */
bool want_match(struct want *object, struct bytes text);

/* A field is a place (a path of keys) and what stands there (a string, number or word), as bytes that only equal fields
 * share: who looks for many values at one place needs to read an event once. The field of `object` that probably fewest
 * events have; false: none, since all that it has is arrays and empty objects. Both are empty buffers at first. */
MUST_CHECK bool want_field(const struct want *object, struct buffer *ret_place, struct buffer *ret_value);
/* Adds what stands at the place; false if nothing that a field can be. Of the text's other parts nothing is verified. */
MUST_CHECK bool want_read_field(struct bytes place, struct bytes text, struct buffer *out);

#endif

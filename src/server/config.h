/* The server's configuration: flags before environment before YAML file before defaults. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "base/bytes.h"
#include "base/json_out.h"

enum config_origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_FLAG };

enum config_key {
#define TEXT(field, name, def, text)             CONFIG_##field,
#define SECRET(field, name, text)                CONFIG_##field,
#define SWITCH(field, name, text)                CONFIG_##field,
#define NUMBER(field, name, def, min, max, text) CONFIG_##field,
#define SIZE(field, name, def, min, max, text)   CONFIG_##field,
#define CHOICE(field, name, def, choices, text)  CONFIG_##field,
#include "server/config.def"
#undef TEXT
#undef SECRET
#undef SWITCH
#undef NUMBER
#undef SIZE
#undef CHOICE
        CONFIG_KEYS,
};

struct config {
#define TEXT(field, name, def, text)             char *field;
#define SECRET(field, name, text)                char *field;
#define SWITCH(field, name, text)                uint64_t field;
#define NUMBER(field, name, def, min, max, text) uint64_t field;
#define SIZE(field, name, def, min, max, text)   uint64_t field;
#define CHOICE(field, name, def, choices, text)  uint64_t field;
#include "server/config.def"
#undef TEXT
#undef SECRET
#undef SWITCH
#undef NUMBER
#undef SIZE
#undef CHOICE
        enum config_origin origin[CONFIG_KEYS];
        char *file; /* the YAML file that was read; NULL: none */
};

/* Reads the whole configuration. `arguments` are flags only ("--port", "0", "--port=0"); `environment` is
 * like environ. All problems are collected in `problems`, one line each, with the nearest valid name; 0 if
 * there is none, else CONFIG_INVALID. Gives *ret in both cases; free it with config_fini. */
enum config_outcome { CONFIG_INVALID = 1 };
MUST_CHECK int config_read(
        int count, char **arguments, char **environment, struct config *ret, struct buffer *problems);
void config_fini(struct config *config);

/* Every option as one JSON object: name, value, origin, default, text. */
void config_to_json(const struct config *config, struct json_out *j);
/* The same for people, and for programs: an object in each line. Secrets are not shown. */
void config_to_table(const struct config *config, struct buffer *out);
void config_to_lines(const struct config *config, struct buffer *out);
/* The list of flags for --help. */
void config_help(struct buffer *out);

#endif

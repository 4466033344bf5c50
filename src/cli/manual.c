/* The man page, from the table of commands. */
#include "cli/manual.h"

static const struct {
        const char *name;
        const char *text;
} variables[] = {
        {"NILO_URL", "the server, when there is no --url"},
        {"NILO_CONTEXT", "the context, when there is neither --context nor a URL"},
        {"NILO_LOGIN", "who logs in, when there is no --login"},
        {"NILO_PASSWORD", "the password for that, else it is typed"},
        {"NILO_TOKEN", "a token in the place of name and password"},
        {"NILO_NEW_PASSWORD", "the password that user add and user passwd set, else it is typed"},
        {"NILO_CA_FILE", "the CA of the server's certificate, when there is no --ca-file"},
        {"NILO_CERT_FILE", "a certificate to show, when there is no --cert-file"},
        {"NILO_KEY_FILE", "its key, when there is no --key-file"},
        {"NILO_DATA", "the data directory of verify and doctor, and of a server"},
        {"XDG_CONFIG_HOME", "nilo/contexts.json in it (else in ~/.config) holds the contexts"},
        {"NO_COLOR", "no colours, if it is not empty"},
};

static const struct {
        const char *code;
        const char *text;
} exits[] = {
        {"0", "done"},
        {"1", "something unexpected; stopped by Ctrl-C before the end; doctor found something wrong"},
        {"2", "the command line or its input is wrong, too large, or was not confirmed"},
        {"3", "conflict; nothing was written"},
        {"4", "there is no such thing"},
        {"5", "denied, or the server is not trusted"},
        {"6", "the server cannot be reached, is starting, busy or full, or did not answer"},
        {"7", "corrupt data"},
        {"64-70", "of a server: configuration, wrong library, data in use, corrupt data, disk fault, a "
                  "worker failed too often, a bug"},
};

/* Text that roff takes for text. */
static void add_text(struct buffer *out, const char *text)
{
        for (; *text; text++) {
                if (*text == '\\')
                        buffer_add_string(out, "\\e");
                else if (*text == '-')
                        buffer_add_string(out, "\\-");
                else if (*text == '\'')
                        buffer_add_string(out, "\\(aq");
                else if (*text == '.' && (!out->size || out->data[out->size - 1] == '\n'))
                        buffer_add_string(out, "\\&.");
                else
                        buffer_add_u8(out, (uint8_t)*text);
        }
}

static void add_item(struct buffer *out, const char *name, const char *value, const char *text)
{
        buffer_add_string(out, ".TP\n.B ");
        add_text(out, name);
        if (value) {
                buffer_add_string(out, " ");
                add_text(out, value);
        }
        buffer_add_u8(out, '\n');
        add_text(out, text);
        buffer_add_u8(out, '\n');
}

static void add_flags(struct buffer *out, const struct cli_flag *flags, size_t count)
{
        for (size_t i = 0; i < count && flags[i].name; i++) {
                struct buffer name = {0};

                buffer_format(&name, "--%s", flags[i].name);
                buffer_add_u8(&name, 0);
                add_item(out, (const char *)name.data, flags[i].value, flags[i].text);
                buffer_fini(&name);
        }
}

static void add_commands(struct buffer *out)
{
        size_t count;
        const struct cli_command *commands = cli_commands(&count);

        for (size_t i = 0; i < count; i++) {
                char usage[CLI_USAGE_SIZE];

                cli_usage(&commands[i], usage);
                buffer_add_string(out, ".SS ");
                add_text(out, usage);
                buffer_add_u8(out, '\n');
                add_text(out, commands[i].text);
                buffer_add_u8(out, '\n');
                add_flags(out, commands[i].flags, CLI_FLAGS_MAX);
        }
}

void manual_write(struct buffer *out)
{
        const struct cli_flag *common;
        size_t count;

        buffer_add_string(out,
                ".TH NILO 1 \"\" \"nilo " NILO_VERSION "\" \"Nilometer\"\n"
                ".SH NAME\nnilo \\- an event store: the server, and its command line\n"
                ".SH SYNOPSIS\n.B nilo\n[\\fIserver flags\\fR]\n.br\n.B nilo\n"
                "\\fInoun\\fR [\\fIverb\\fR] [\\fIarguments\\fR] [\\fIflags\\fR]\n"
                ".SH DESCRIPTION\nWithout a noun nilo starts a server on this machine, with its data in "
                "./nilo\\-data;\n.B nilo serve \\-\\-help\nlists its flags. With a noun it speaks to a "
                "server, or looks "
                "at data at rest.\nOn a terminal answers are tables; in a pipe, or with \\-\\-json, they are "
                "one JSON "
                "object in each line.\n.SH COMMANDS\n");
        add_commands(out);
        buffer_add_string(out, ".SH FLAGS OF EVERY COMMAND\n");
        common = cli_common_flags(&count);
        add_flags(out, common, count);
        buffer_add_string(out, ".SH ENVIRONMENT\n");
        for (size_t i = 0; i < COUNT_OF(variables); i++)
                add_item(out, variables[i].name, NULL, variables[i].text);
        buffer_add_string(out, ".SH EXIT STATUS\n");
        for (size_t i = 0; i < COUNT_OF(exits); i++)
                add_item(out, exits[i].code, NULL, exits[i].text);
}

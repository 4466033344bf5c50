/* Frames: text and curves, cut to the size of a terminal. Each row is placed by itself, and the rest of a row
 * is cleared only where there is a rest: behind a full row the cursor still stands on its last character. */
#include <stdarg.h>
#include <stdio.h>

#include "cli/screen.h"

enum { TEXT_SIZE_MAX = 1024 };

static const char *const styles[] = {
        [FRAME_PLAIN] = "",
        [FRAME_STRONG] = "1",
        [FRAME_FAINT] = "2",
        [FRAME_GOOD] = "32",
        [FRAME_WARNING] = "33",
        [FRAME_BAD] = "1;31",
        [FRAME_HEAD] = "7",
};

void frame_begin(struct frame *f, unsigned width, unsigned height)
{
        buffer_clear(&f->out);
        f->width = width;
        f->height = height;
        f->row = 0;
        f->column = 0;
        f->is_page = false;
        buffer_add_string(&f->out, "\033[H");
}

void frame_begin_page(struct frame *f, unsigned width)
{
        frame_begin(f, width, UINT32_MAX);
        buffer_clear(&f->out);
        f->is_page = true;
}

void frame_free(struct frame *f)
{
        buffer_fini(&f->out);
}

static bool is_open(const struct frame *f)
{
        return f->row < f->height;
}

/* ---- characters ---- */

/* The character at `text` and its size; what is no UTF-8 counts as one byte and is 0. */
static uint32_t character_at(const char *text, unsigned *ret_size)
{
        const uint8_t *t = (const uint8_t *)text;
        unsigned size = *t < 0x80 ? 1 : *t >= 0xf0 && *t < 0xf5 ? 4 : *t >= 0xe0 ? 3 : *t >= 0xc2 ? 2 : 0;
        uint32_t c;

        *ret_size = 1;
        if (size < 2)
                return size ? *t : 0;
        c = *t & (0x7fU >> size);
        for (unsigned i = 1; i < size; i++) {
                if ((t[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (t[i] & 0x3f);
        }
        *ret_size = size;
        return c;
}

/* Columns of a character: none of a mark on the one before it, two of East Asian ones and pictures. */
static unsigned columns_of(uint32_t c)
{
        static const struct {
                uint32_t first;
                uint32_t last;
        } wide[] = {{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff},
                {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f}, {0x1f900, 0x1f9ff},
                {0x20000, 0x3fffd}};

        if ((c >= 0x300 && c < 0x370) || (c >= 0x200b && c < 0x2010) || (c >= 0xfe00 && c < 0xfe10))
                return 0;
        for (size_t i = 0; i < COUNT_OF(wide); i++)
                if (c >= wide[i].first && c <= wide[i].last)
                        return 2;
        return 1;
}

static void begin_style(struct frame *f, enum frame_style style)
{
        if (f->has_color && *styles[style])
                buffer_format(&f->out, "\033[%sm", styles[style]);
}

static void end_style(struct frame *f, enum frame_style style)
{
        if (f->has_color && *styles[style])
                buffer_add_string(&f->out, "\033[0m");
}

static void add_spaces(struct frame *f, unsigned count)
{
        for (; count && f->column < f->width; count--, f->column++)
                buffer_add_u8(&f->out, ' ');
}

/* Adds at most `columns` columns. */
static void add_cut(struct frame *f, const char *text, unsigned columns)
{
        unsigned size;

        for (; *text; text += size) {
                uint32_t c = character_at(text, &size);
                bool is_control = c < 0x20 || (c >= 0x7f && c < 0xa0);
                unsigned width = f->has_utf8 && !is_control ? columns_of(c) : 1;

                if (width > columns || f->column + width > f->width)
                        return;
                if (is_control)
                        buffer_add_u8(&f->out, '.');
                else if (size > 1 && !f->has_utf8)
                        buffer_add_u8(&f->out, '?');
                else
                        buffer_add(&f->out, text, size);
                columns -= width;
                f->column += width;
        }
}

static unsigned width_of(const struct frame *f, const char *text)
{
        unsigned width = 0;
        unsigned size;

        for (; *text; text += size) {
                uint32_t c = character_at(text, &size);

                width += f->has_utf8 && c ? columns_of(c) : 1;
        }
        return width;
}

void frame_text(struct frame *f, enum frame_style style, int width, const char *text)
{
        unsigned columns = (unsigned)(width < 0 ? -width : width);
        unsigned wanted = width_of(f, text);
        unsigned shown = width ? MIN(wanted, columns) : wanted;

        if (!is_open(f))
                return;
        if (width < 0)
                add_spaces(f, columns - shown);
        begin_style(f, style);
        add_cut(f, text, shown);
        end_style(f, style);
        if (width > 0)
                add_spaces(f, columns - shown);
}

void frame_format(struct frame *f, enum frame_style style, int width, const char *format, ...)
{
        char text[TEXT_SIZE_MAX];
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        frame_text(f, style, width, text);
}

void frame_next_row(struct frame *f)
{
        if (!is_open(f))
                return;
        if (f->is_page)
                buffer_add_u8(&f->out, '\n');
        else if (f->column < f->width)
                buffer_add_string(&f->out, "\033[K");
        f->row++;
        f->column = 0;
        if (is_open(f) && !f->is_page)
                buffer_format(&f->out, "\033[%u;1H", f->row + 1);
}

void frame_grow(struct frame *f, unsigned height)
{
        bool was_open = is_open(f);

        f->height = height;
        /* The cursor was not placed in a row that there was not. */
        if (!was_open && is_open(f) && !f->is_page)
                buffer_format(&f->out, "\033[%u;1H", f->row + 1);
}

void frame_end(struct frame *f)
{
        if (is_open(f) && !f->is_page && (f->column < f->width || f->row + 1 < f->height))
                buffer_add_string(&f->out, f->column < f->width ? "\033[J" : "\033[1B\r\033[J");
}

/* ---- curves ---- */

void curve_add(struct curve *c, double value)
{
        c->values[c->count++ % CURVE_VALUES_MAX] = value;
}

double curve_max(const struct curve *c, unsigned last)
{
        unsigned count = MIN(MIN(last, c->count), (unsigned)CURVE_VALUES_MAX);
        double max = 0;

        for (unsigned i = c->count - count; i != c->count; i++)
                max = MAX(max, c->values[i % CURVE_VALUES_MAX]);
        return max;
}

void frame_curve(struct frame *f, enum frame_style style, const struct curve *c, unsigned width)
{
        static const char *const bars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
        static const char *const plain[] = {" ", ".", ".", ":", ":", "|", "|", "#", "#"};
        unsigned shown = MIN(MIN(width, c->count), (unsigned)CURVE_VALUES_MAX);
        double max = curve_max(c, shown);

        if (!is_open(f))
                return;
        width = MIN(width, f->width - MIN(f->column, f->width));
        shown = MIN(shown, width);
        add_spaces(f, width - shown);
        begin_style(f, style);
        for (unsigned i = c->count - shown; i != c->count; i++) {
                double value = c->values[i % CURVE_VALUES_MAX];
                /* What is not nothing is seen. */
                unsigned height = max > 0 && value > 0 ? 1 + (unsigned)(value / max * 7.0) : 0;

                buffer_add_string(&f->out, (f->has_utf8 ? bars : plain)[MIN(height, 8U)]);
                f->column++;
        }
        end_style(f, style);
}

/* A live screen: frames of text that fit the terminal, keys, and a terminal that is as it was on every way out. */
#ifndef CLI_SCREEN_H
#define CLI_SCREEN_H

#include "cli/command.h"

/* ---- a frame: what one screen shows, row by row; what does not fit is cut ---- */

enum frame_style { FRAME_PLAIN, FRAME_STRONG, FRAME_FAINT, FRAME_GOOD, FRAME_WARNING, FRAME_BAD, FRAME_HEAD };

struct frame {
        struct buffer out; /* bytes for the terminal */
        unsigned width;
        unsigned height;
        unsigned row;    /* from 0 */
        unsigned column; /* from 0, behind what is there */
        bool has_color;
        bool has_utf8;
        bool is_page; /* of lines, one below the other, not of a screen */
};
/* Empties it; the colours and the characters stay as they were. */
void frame_begin(struct frame *f, unsigned width, unsigned height);
void frame_begin_page(struct frame *f, unsigned width);
/* Adds text to the row, at least `width` columns of it: behind spaces if `width` is below zero. What is wider is cut to
 * it; 0: as wide as it is. Control characters become '.'; without UTF-8 every other character becomes '?'. */
void frame_text(struct frame *f, enum frame_style style, int width, const char *text);
void frame_format(struct frame *f, enum frame_style style, int width, const char *format, ...) PRINTF_LIKE(4, 5);
void frame_next_row(struct frame *f);
void frame_grow(struct frame *f, unsigned height); /* more rows, below those that there were */
static inline unsigned frame_rows_left(const struct frame *f)
{
        return f->row < f->height ? f->height - f->row : 0;
}
void frame_end(struct frame *f); /* clears what is below */
void frame_free(struct frame *f);

/* ---- a curve of the last values, one character each ---- */

enum { CURVE_VALUES_MAX = 256 };

struct curve {
        double values[CURVE_VALUES_MAX]; /* a ring */
        unsigned count;                  /* ever added */
};
void curve_add(struct curve *c, double value);
double curve_max(const struct curve *c, unsigned last); /* of the last so many */
/* The newest stands at the right end of `width` columns; as high as the highest that is shown. */
void frame_curve(struct frame *f, enum frame_style style, const struct curve *c, unsigned width);

/* ---- the terminal ---- */

enum screen_event {
        SCREEN_TIME,   /* the time is over */
        SCREEN_KEY,    /* *ret_key */
        SCREEN_WOKEN,  /* by screen_wake */
        SCREEN_CHANGED, /* another size, or back from being stopped: draw again */
        SCREEN_END,    /* Ctrl-C, SIGTERM, or the terminal is gone */
};

/* Whether the terminal's user sees UTF-8, by LC_ALL, LC_CTYPE and LANG. */
bool screen_has_utf8(void);
/* Takes the terminal: an alternate screen, no echo, no cursor. CLI_OK, or a code after a message. One at a time. */
MUST_CHECK int screen_begin(void);
/* Gives it back as it was. Signals that end or stop the process do so too, also a fault of this program. */
void screen_end(void);
void screen_size(unsigned *ret_width, unsigned *ret_height);
bool screen_show(struct frame *f); /* false: nobody looks any more */
enum screen_event screen_wait(unsigned ms, char *ret_key);
void screen_wake(void); /* from any thread, while the screen is taken */

#endif

#include "persistence/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/persistence.h"

static _Thread_local char problem[PROBLEM_SIZE_MAX];

char *text_format(const char *format, ...)
{
        char probe[1];
        va_list args;
        char *text;
        int size;

        assert(format);
        va_start(args, format);
        size = vsnprintf(probe, sizeof probe, format, args);
        va_end(args);
        assert(size >= 0);
        text = memory_new((size_t)size + 1);
        va_start(args, format);
        vsnprintf(text, (size_t)size + 1, format, args);
        va_end(args);
        return text;
}

void text_freep(char **text)
{
        free(*text);
        *text = NULL;
}

int problem_note(int outcome, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        vsnprintf(problem, sizeof problem, format, args);
        va_end(args);
        return outcome;
}

const char *persistence_problem(void)
{
        return problem;
}

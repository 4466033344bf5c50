#include "persistence/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "persistence/persistence.h"

static _Thread_local char problem[PROBLEM_SIZE_MAX];

char *text_format(const char *format, ...)
{
        va_list args;
        char *text = NULL;
        int size;

        va_start(args, format);
        size = vasprintf(&text, format, args);
        va_end(args);
        assert(size >= 0);
        return text;
}

void text_freep(char **text)
{
        free(*text);
        *text = NULL;
}

int problem_set(int outcome, const char *format, ...)
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

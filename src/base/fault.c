#include "base/fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Thread_local struct {
        int fault;
        int line;
        const char *file;
} newest;

int fault_raise_at(int fault, const char *file, int line)
{
        assert(fault < 0);
        newest.fault = fault;
        newest.file = file;
        newest.line = line;
        return fault;
}

int fault_fold_at(int result, const char *file, int line)
{
        return result > 0 ? fault_raise_at(-EPROTO, file, line) : result;
}

const char *fault_last(void)
{
        static _Thread_local char text[256];
        const char *file;

        if (!newest.fault)
                return "no fault";
        file = strrchr(newest.file, '/');
        snprintf(text, sizeof text, "%s at %s:%d", strerror(-newest.fault), file ? file + 1 : newest.file,
                newest.line);
        return text;
}

void fault_exit(int exit_code, const char *format, ...)
{
        char text[1024];
        int n;
        va_list args;

        va_start(args, format);
        n = vsnprintf(text, sizeof text - 1, format, args);
        va_end(args);
        n = n < 0 ? 0 : MIN(n, (int)sizeof text - 2);
        text[n++] = '\n';
        if (write(STDERR_FILENO, text, (size_t)n) < 0)
                exit_code = exit_code ? exit_code : EXIT_CODE_BUG;
        _exit(exit_code);
}

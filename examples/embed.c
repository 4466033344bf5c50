/* An event store inside your own process: append, read, follow. cc embed.c $(pkg-config --cflags --libs nilo) && ./a.out */
#include <nilo/nilo.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
        const struct nilo_options options = {.data = argc > 1 ? argv[1] : "./embed-data"};
        const struct nilo_read_options from_the_start = {.stream = "order-42"};
        struct nilo *nilo = NULL;
        struct nilo_reader *reader = NULL;
        struct nilo_event placed = {.type = "OrderPlaced", .data = "{\"total\":5}", .data_size = 11}, paid = {.type = "OrderPaid"};
        struct nilo_appended appended;
        struct nilo_recorded event;
        enum nilo_result r = nilo_open(&options, &nilo);

        if (!r)
                r = nilo_append(nilo, "order-42", NILO_ANY, &placed, 1, &appended); /* on disk when it returns */
        if (!r)
                r = nilo_append(nilo, "order-42", appended.last_revision, &paid, 1, NULL); /* NILO_CONFLICT: somebody was faster */
        if (!r)
                r = nilo_read(nilo, &from_the_start, &reader);
        while (!r && !(r = nilo_next(reader, 500, &event))) /* history, then live: waits half a second for more */
                printf("%lld %s %.*s\n", (long long)event.revision, event.type, (int)event.data_size, (const char *)event.data);
        if (r != NILO_END)
                fprintf(stderr, "%s: %s\n", nilo_result_name(r), nilo_problem());
        nilo_reader_close(&reader);
        nilo_close(&nilo);
        return r == NILO_END ? 0 : 1;
}

/* An event store inside your own process: cc embed.c $(pkg-config --cflags --libs nilo) && ./a.out */
#include <nilo/nilo.h>
#include <stdio.h>

int main(int argc, char **argv)
{
        const struct nilo_options options = {.data = argc > 1 ? argv[1] : "./embed-data"};
        const struct nilo_read_options all_of_it = {.stream = "order-42"};
        const struct nilo_event placed = {.type = "OrderPlaced", .data = "{\"total\":5}", .data_size = 11};
        const struct nilo_event paid = {.type = "OrderPaid"};
        struct nilo *nilo = NULL;
        struct nilo_reader *reader = NULL;
        struct nilo_appended done;
        struct nilo_recorded e;
        enum nilo_result r = nilo_open(&options, &nilo);

        if (!r)
                r = nilo_append(nilo, "order-42", NILO_ANY, &placed, 1, &done); /* on disk when it returns */
        if (!r) /* on top of that one only: NILO_CONFLICT if somebody was faster */
                r = nilo_append(nilo, "order-42", done.last_revision, &paid, 1, NULL);
        if (!r)
                r = nilo_read(nilo, &all_of_it, &reader);
        while (!r && !(r = nilo_next(reader, 500, &e))) /* history, then live; 500 ms without news ends it */
                printf("%d %s %.*s\n", (int)e.revision, e.type, (int)e.data_size, (const char *)e.data);
        if (r != NILO_END)
                fprintf(stderr, "%s: %s\n", nilo_result_name(r), nilo_problem());
        nilo_reader_close(&reader);
        nilo_close(&nilo);
        return r == NILO_END ? 0 : 1;
}

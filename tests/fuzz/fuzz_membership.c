/* What nodes and who would be one say to membership: news of nodes, answers to a join, events of the ledger,
 * datagrams of discovery, commands of nodes and of strangers, and their answers. The first byte chooses.
 *
 * Oracles: what is taken can be said again and is read as the same; texts are ended and fit to be shown, and
 * counts are within their tables; a command that was begun is answered once, with a status; the memory of the
 * JSON is paid for by the bytes that came.
 *
 * Links: base os model control tls peers persistence cluster store membership */
#include <malloc.h>
#include <stdlib.h>

#include "membership/room.h"
#include "os/os_sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
        if (!is_true)
                abort();
}

/* ---- memory of the JSON library ---- */

static size_t in_use, most;

static void *count_new(size_t size)
{
        void *memory = malloc(size);

        in_use += malloc_usable_size(memory);
        most = MAX(most, in_use);
        return memory;
}

/* What it gives away is freed by whoever takes it: that still counts here. */
static void count_free(void *memory)
{
        in_use -= malloc_usable_size(memory);
        free(memory);
}

/* ---- texts ---- */

static void require_shown(const char *text, size_t size)
{
        require(memchr(text, 0, size) != NULL);
        for (; *text; text++)
                require((uint8_t)*text >= 0x20 && *text != 0x7f);
}

/* ---- what nodes tell ---- */

static void try_news(struct bytes body)
{
        CLEANUP(buffer_fini) struct buffer once = {0};
        CLEANUP(buffer_fini) struct buffer twice = {0};
        struct json_out j = {.out = &once}, k = {.out = &twice};
        struct node_news news, again;

        if (!node_news_parse(body, &news))
                return;
        require(news.state < MEMBERSHIP_STATES && news.is_known);
        require_shown(news.name, sizeof news.name);
        require_shown(news.version, sizeof news.version);
        require_shown(news.host, sizeof news.host);
        require_shown(news.address, sizeof news.address);
        node_news_add(&news, &j);
        require(node_news_parse(buffer_bytes(&once), &again));
        node_news_add(&again, &k);
        require(bytes_equal(buffer_bytes(&once), buffer_bytes(&twice)));
        require(again.port == news.port && again.next_position == news.next_position &&
                again.last_index == news.last_index && again.version_max == news.version_max &&
                strcmp(again.name, news.name) == 0 && strcmp(again.address, news.address) == 0);
}

static void try_join_answer(struct bytes body)
{
        CLEANUP(json_freep)
        json_t *object = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
        static struct join_answer a;
        char why[WHY_SIZE_MAX] = "";

        if (!join_answer_take(object, &a, why)) {
                require(*why != 0);
                return;
        }
        require(a.identity.node_id && a.epoch && a.member_count && a.member_count <= CLUSTER_MEMBERS_MAX);
        require(a.ca && a.certificate);
        for (unsigned i = 0; i < a.member_count; i++) {
                require(a.members[i].node_id && a.members[i].node_id != a.identity.node_id);
                require_shown(a.members[i].address, sizeof a.members[i].address);
        }
}

/* ---- the ledger: events, each in a line behind the letter of its type ---- */

static void require_ledger(const struct ledger *l, uint64_t events)
{
        uint64_t used = 0;

        require(l->token_count <= TOKENS_MAX && l->node_count <= ADMITTED_MAX);
        require(l->has_events == (events > 0) && (!events || l->revision == events - 1));
        for (unsigned i = 0; i < l->token_count; i++)
                used += l->tokens[i].used;
        require(used <= events);
        for (unsigned i = 0; i < l->node_count; i++) {
                require(l->nodes[i].node_id && l->nodes[i].node_id <= l->node_id_max);
                require_shown(l->nodes[i].name, sizeof l->nodes[i].name);
                require_shown(l->nodes[i].host, sizeof l->nodes[i].host);
        }
}

static void try_ledger(struct bytes body)
{
        static const char *const types[] = {"$nilo-token-made", "$nilo-token-revoked", "$nilo-node-admitted",
                "$nilo-cluster-version", "other"};
        static struct ledger l;
        uint64_t events = 0;

        l = (struct ledger){.node_id_max = 0};
        while (body.size) {
                const uint8_t *end = memchr(body.data, '\n', body.size);
                size_t size = end ? (size_t)(end - body.data) : body.size;

                if (size)
                        ledger_note(&l, events++, bytes_of_string(types[body.data[0] % COUNT_OF(types)]),
                                bytes_of(body.data + 1, size - 1));
                size += end != NULL;
                body = bytes_of(body.data + size, body.size - size);
        }
        require_ledger(&l, events);
}

/* ---- discovery ---- */

#define SECRET "a secret that every node of this cluster has"

static void try_datagram(struct bytes body)
{
        CLEANUP(buffer_fini) struct buffer sealed = {0};
        CLEANUP(buffer_fini) struct buffer again = {0};
        uint8_t hmac[TLS_HMAC_SIZE];
        struct datagram d, e;

        /* Of who does not know the secret, nothing is taken. */
        require(datagram_parse(body, SECRET, &d) != 0);
        buffer_add_bytes(&sealed, body);
        tls_hmac(bytes_of_string(SECRET), body, hmac);
        buffer_add_bytes(&sealed, bytes_of(hmac, sizeof hmac));
        require(datagram_parse(buffer_bytes(&sealed), SECRET "!", &d) != 0);
        if (datagram_parse(buffer_bytes(&sealed), SECRET, &d))
                return;
        require_shown(d.address, sizeof d.address);
        require_shown(d.clients, sizeof d.clients);
        datagram_make(&d, SECRET, &again);
        require(datagram_parse(buffer_bytes(&again), SECRET, &e) == 0);
        require(memcmp(d.cluster_uuid, e.cluster_uuid, sizeof d.cluster_uuid) == 0 &&
                memcmp(d.nonce, e.nonce, sizeof d.nonce) == 0 && d.node_id == e.node_id &&
                d.wall_us == e.wall_us && strcmp(d.address, e.address) == 0 &&
                strcmp(d.clients, e.clients) == 0);
}

/* ---- commands ---- */

static unsigned answered;

static void on_answered(struct command *c, json_t *answer)
{
        (void)c;
        require(json_is_object(answer));
        answered++;
}

static void on_client_answered(void *arg, const struct membership_answer *said)
{
        (void)arg;
        require(said->status >= 200 && said->status < 600 && said->code && said->title && said->detail);
        require(said->body.size >= 2);
        answered++;
}

/* A node that has the CA's key, but neither store nor links: what would need them waits, until all end. */
static struct membership *node_new(struct os *os)
{
        struct membership *m = MEMORY_NEW(struct membership);

        m->os = os;
        m->certificates = memory_copy_string("certs");
        m->has_authority = true;
        m->identity.node_id = 1;
        list_init(&m->commands);
        return m;
}

static void try_command(uint8_t from, struct bytes body)
{
        static struct os *os;
        struct membership *m;
        struct buffer message = {0};
        uint8_t number[8];
        unsigned begun = 0;

        if (!os)
                require(os_sim_new(1, &os) == 0);
        m = node_new(os);
        answered = 0;
        put_u64(number, 1);
        buffer_add_bytes(&message, bytes_of(number, sizeof number));
        buffer_add_bytes(&message, body);
        if (from % 4 == 0) {
                commands_on_message(m, 2, buffer_bytes(&message));
        } else if (from % 4 == 1) {
                commands_on_ask(m, 1, "10.0.0.9:1", NULL, body);
        } else if (from % 4 == 2) {
                struct command *c = command_begin(m, json_object(), 0, on_answered, NULL);

                begun = 1;
                c->number = 1;
                c->sent_to = 2;
                commands_on_answer(m, 3, buffer_bytes(&message)); /* not whom it was sent to */
                require(!answered);
                commands_on_answer(m, 2, buffer_bytes(&message));
                require(answered == 1 && list_is_empty(&m->commands));
        } else {
                begun = 1;
                m->is_stopping = true;
                membership_command(m, body, 0, on_client_answered, NULL);
                require(answered == 1);
        }
        os_sim_run_for(os, 1000 * 1000);
        commands_end_all(m);
        require(answered == begun && m->command_count == 0);
        buffer_fini(&message);
        free(m->certificates);
        free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct bytes body;

        if (size < 2)
                return 0;
        json_set_alloc_funcs(count_new, count_free);
        in_use = most = 0;
        body = bytes_of(data + 2, size - 2);
        switch (data[0] % 5) {
        case 0:
                try_news(body);
                break;
        case 1:
                try_join_answer(body);
                break;
        case 2:
                try_ledger(body);
                break;
        case 3:
                try_datagram(body);
                break;
        case 4:
                try_command(data[1], body);
                break;
        }
        /* An empty object of two bytes has a table. */
        require(most <= 16 * 1024 + 512 * size);
        return 0;
}

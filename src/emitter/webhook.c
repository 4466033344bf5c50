/* Delivery by POST: a worker takes a batch, posts it, and acknowledges it on a 2xx. Anything else is a retry,
 * later each time, and parked with the reason when none is left. Each failure halves the batches and each
 * success doubles them, so that an event that the receiver cannot bear is soon alone and does not take its
 * neighbours with it.
 *
 * The call is made by libcurl on the lane of calls. It may outlive its worker, so what it needs is its own.
 *
 * Body: {"subscription":KEY,"events":[...]}. Headers: Nilo-Subscription (the key, percent-encoded),
 * Nilo-Event-Ids, Nilo-Timestamp (seconds since 1970), and, where there is a secret, Nilo-Signature:
 * "sha256=" and in hexadecimal the HMAC-SHA256 with the secret over the timestamp, a full stop, and the body.
 */
#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_in.h"
#include "base/memory.h"
#include "emitter/room.h"

enum {
        BATCH_EVENTS_MAX = 100,
        BATCH_SIZE_MAX = 1024 * 1024, /* an event that goes beyond it is the last of its batch */
        CALL_TIMEOUT_MS = 10000,
        ANSWER_SIZE_MAX = 64 * 1024, /* read and dropped; more ends the call */
        BACKOFF_FIRST_MS = 500,
        BACKOFF_MAX_MS = 60000,
        SIGNATURE_SIZE = 32,
};

struct batch {
        struct buffer events;
        struct event_id ids[BATCH_EVENTS_MAX];
        uint32_t retries[BATCH_EVENTS_MAX];
        unsigned count;
};

struct hook;

struct call {
        struct os_work work;
        struct hook *hook; /* NULL: nobody waits for the answer. Loop */
        atomic_bool is_cancelled;
        /* the loop's, or the lane's while it is under way */
        CURL *curl;
        struct curl_slist *headers;
        char *url;
        struct buffer body;
        uint64_t timeout_ms;
        uint64_t answer_size;
        long status; /* 0: there was no answer */
        char error[CURL_ERROR_SIZE];
};

struct hook {
        struct worker *worker;
        struct call *call;
        struct batch batch; /* being posted, or waiting to be given back */
        unsigned most;      /* events of a batch */
        struct os_timer backoff;
        char reason[CURL_ERROR_SIZE + 64];
        bool is_calling;
        bool is_backing_off;
};

/* ---- the call, on its lane ---- */

static size_t on_answer(char *data, size_t size, size_t count, void *arg)
{
        struct call *c = arg;

        (void)data;
        c->answer_size += size * count;
        return c->answer_size > ANSWER_SIZE_MAX ? 0 : size * count;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
        struct call *c = arg;

        (void)a;
        (void)b;
        (void)d;
        (void)e;
        return atomic_load(&c->is_cancelled);
}

static CURLcode prepare(struct call *c)
{
        CURL *curl = c->curl;
        CURLcode r = CURLE_OK;

#define SET(option, value)                                                                                   \
        if (r == CURLE_OK)                                                                                   \
        r = curl_easy_setopt(curl, option, value)
        SET(CURLOPT_URL, c->url);
        SET(CURLOPT_PROTOCOLS_STR, "http,https");
        SET(CURLOPT_FOLLOWLOCATION, 0L); /* an answer must not send events elsewhere */
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_TIMEOUT_MS, (long)c->timeout_ms);
        SET(CURLOPT_HTTPHEADER, c->headers);
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.size);
        SET(CURLOPT_POSTFIELDS, (char *)c->body.data);
        SET(CURLOPT_WRITEFUNCTION, on_answer);
        SET(CURLOPT_WRITEDATA, c);
        SET(CURLOPT_NOPROGRESS, 0L);
        SET(CURLOPT_XFERINFOFUNCTION, on_progress);
        SET(CURLOPT_XFERINFODATA, c);
        SET(CURLOPT_ERRORBUFFER, c->error);
#undef SET
        return r;
}

static void call_run(struct os_work *work)
{
        struct call *c = CONTAINER_OF(work, struct call, work);
        CURLcode r;

        c->status = 0;
        c->answer_size = 0;
        c->error[0] = 0;
        if (atomic_load(&c->is_cancelled))
                return;
        if (!c->curl)
                c->curl = curl_easy_init();
        if (!c->curl) {
                snprintf(c->error, sizeof c->error, "no memory");
                return;
        }
        r = prepare(c);
        if (r == CURLE_OK)
                r = curl_easy_perform(c->curl);
        if (r == CURLE_OK)
                curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &c->status);
        else if (!c->error[0])
                snprintf(c->error, sizeof c->error, "%s", curl_easy_strerror(r));
}

static void call_free(struct call *c)
{
        curl_easy_cleanup(c->curl);
        curl_slist_free_all(c->headers);
        buffer_fini(&c->body);
        free(c->url);
        free(c);
}

/* ---- what is posted ---- */

static void add_value(
        struct json_out *j, const char *key, const char *base64_key, struct bytes value, bool is_json)
{
        if (is_json && json_in_is_valid(value)) {
                json_key(j, key);
                json_raw(j, value);
        } else {
                json_key(j, base64_key);
                json_base64(j, value);
        }
}

static void add_place(struct json_out *j, const struct event_view *v)
{
        char id[EVENT_ID_TEXT_SIZE + 1];

        event_id_format(&v->id, id);
        json_field_bytes(j, "stream", v->stream);
        json_field_u64(j, "revision", v->revision);
        json_field_u64(j, "position", v->position);
        json_field_string(j, "id", id);
}

static void batch_add(struct batch *b, const struct consumer_message *m)
{
        struct json_out j = {.out = &b->events};
        /* A link that anybody may write leads to no secret of the server. */
        bool has_event = m->item.has_event && !(m->item.has_link && stream_is_guarded(m->item.event.stream));
        const struct event_view *v = has_event ? &m->item.event : &m->item.link;
        bool is_json = v->content_type == CONTENT_JSON;
        char time[64];

        if (b->count)
                buffer_add_u8(&b->events, ',');
        write_time(v->time_us, time, sizeof time);
        json_object_begin(&j);
        add_place(&j, v);
        json_field_bytes(&j, "type", v->type);
        json_field_string(&j, "time", time);
        json_field_string(&j, "content_type", is_json ? "application/json" : "application/octet-stream");
        if (v->data.size || !is_json)
                add_value(&j, "data", "data_base64", v->data, is_json);
        if (v->metadata.size)
                add_value(&j, "metadata", "metadata_base64", v->metadata, true);
        if (m->item.has_link && has_event) {
                json_key(&j, "link");
                json_object_begin(&j);
                add_place(&j, &m->item.link);
                json_object_end(&j);
        }
        json_field_u64(&j, "retry_count", m->retry_count);
        json_object_end(&j);
        b->ids[b->count] = item_source(&m->item)->id;
        b->retries[b->count] = m->retry_count;
        b->count++;
}

static void batch_clear(struct batch *b)
{
        buffer_clear(&b->events);
        b->count = 0;
}

static void add_header(struct call *c, struct buffer *line)
{
        struct curl_slist *more;

        buffer_add_u8(line, 0);
        more = curl_slist_append(c->headers, (const char *)line->data);
        if (!more)
                fault_exit(EXIT_CODE_BUG, "no memory is left");
        c->headers = more;
        buffer_clear(line);
}

/* Names may hold anything: in a header only what is visible stands for itself. */
static void add_encoded(struct buffer *out, struct bytes text)
{
        for (size_t i = 0; i < text.size; i++) {
                if (text.data[i] > ' ' && text.data[i] < 0x7f && text.data[i] != '%')
                        buffer_add_u8(out, text.data[i]);
                else
                        buffer_format(out, "%%%02X", text.data[i]);
        }
}

static void add_signature(struct call *c, struct bytes secret, uint64_t seconds, struct buffer *line)
{
        struct buffer text = {0};
        uint8_t signature[EVP_MAX_MD_SIZE];
        unsigned size = 0;

        buffer_format(&text, "%llu.", (unsigned long long)seconds);
        buffer_add_bytes(&text, buffer_bytes(&c->body));
        if (!HMAC(EVP_sha256(), secret.data, (int)secret.size, text.data, text.size, signature, &size) ||
                size != SIGNATURE_SIZE)
                fault_exit(EXIT_CODE_BUG, "HMAC-SHA256 cannot be had");
        buffer_fini(&text);
        buffer_add_string(line, "Nilo-Signature: sha256=");
        for (unsigned i = 0; i < size; i++)
                buffer_format(line, "%02x", signature[i]);
        add_header(c, line);
}

static void write_call(struct call *c, const struct pool *p, const struct batch *b)
{
        uint64_t seconds = os_turn_time(p->emitter->os).wall_us / 1000000;
        uint64_t timeout = p->definition.d.settings.message_timeout_ms;
        struct json_out j = {.out = &c->body};
        struct buffer line = {0};
        char id[EVENT_ID_TEXT_SIZE + 1];

        buffer_clear(&c->body);
        json_object_begin(&j);
        json_field_bytes(&j, "subscription", p->key);
        json_key(&j, "events");
        buffer_add_u8(&c->body, '[');
        buffer_add_bytes(&c->body, buffer_bytes(&b->events));
        buffer_add_string(&c->body, "]}");
        /* libcurl counts it from the beginning of the call. */
        c->timeout_ms = timeout ? MIN(timeout, (uint64_t)CALL_TIMEOUT_MS) : CALL_TIMEOUT_MS;
        curl_slist_free_all(c->headers);
        c->headers = NULL;
        buffer_add_string(&line, "Content-Type: application/json");
        add_header(c, &line);
        buffer_add_string(&line, "Expect:"); /* no pause before the body */
        add_header(c, &line);
        buffer_add_string(&line, "Nilo-Subscription: ");
        add_encoded(&line, p->key);
        add_header(c, &line);
        buffer_format(&line, "Nilo-Timestamp: %llu", (unsigned long long)seconds);
        add_header(c, &line);
        buffer_add_string(&line, "Nilo-Event-Ids: ");
        for (unsigned i = 0; i < b->count; i++) {
                event_id_format(&b->ids[i], id);
                buffer_format(&line, "%s%s", i ? "," : "", id);
        }
        add_header(c, &line);
        if (p->definition.d.secret.size)
                add_signature(c, p->definition.d.secret, seconds, &line);
        buffer_fini(&line);
}

/* ---- the worker, on the loop ---- */

static void run(struct worker *w);
static void call_done(struct os_work *work);

static void post(struct hook *h)
{
        struct worker *w = h->worker;
        struct call *c = h->call;

        if (!c) {
                c = h->call = MEMORY_NEW(struct call);
                c->hook = h;
                c->url = memory_new(w->pool->definition.d.url.size + 1);
                memcpy(c->url, w->pool->definition.d.url.data, w->pool->definition.d.url.size);
                c->url[w->pool->definition.d.url.size] = 0;
        }
        write_call(c, w->pool, &h->batch);
        h->is_calling = true;
        c->work = (struct os_work){.work = call_run, .done = call_done};
        os_work_submit(w->pool->emitter->os, OS_LANE_CALL, &c->work);
}

/* What is left of the failed batch goes back, or is parked. */
static void give_back(struct hook *h)
{
        struct worker *w = h->worker;
        uint32_t most = w->pool->definition.d.settings.max_retry_count;

        for (unsigned i = 0; i < h->batch.count; i++)
                consumer_nack(w->consumer, &h->batch.ids[i], 1,
                        h->batch.retries[i] >= most ? NACK_PARK : NACK_RETRY, bytes_of_string(h->reason));
        batch_clear(&h->batch);
}

static void on_backoff(struct os_timer *timer)
{
        struct hook *h = timer->arg;

        h->is_backing_off = false;
        give_back(h);
        run(h->worker);
}

static void back_off(struct hook *h)
{
        struct pool *p = h->worker->pool;
        const struct emitter_settings *s = &p->definition.d.settings;
        uint64_t delay_ms =
                MIN((uint64_t)BACKOFF_FIRST_MS << MIN(h->batch.retries[0], 10u), (uint64_t)BACKOFF_MAX_MS);

        if (h->batch.retries[0] >= s->max_retry_count)
                delay_ms = 0;
        h->is_backing_off = true;
        os_timer_start(p->emitter->os, &h->backoff, delay_ms * 1000);
}

static void call_done(struct os_work *work)
{
        struct call *c = CONTAINER_OF(work, struct call, work);
        struct hook *h = c->hook;

        if (!h) {
                call_free(c);
                return;
        }
        h->is_calling = false;
        if (c->status >= 200 && c->status < 300) {
                consumer_ack(h->worker->consumer, h->batch.ids, h->batch.count);
                h->most = MIN(h->most * 2, (unsigned)BATCH_EVENTS_MAX);
                batch_clear(&h->batch);
                run(h->worker);
                return;
        }
        if (c->status)
                snprintf(h->reason, sizeof h->reason, "the webhook answered with status %ld", c->status);
        else
                snprintf(h->reason, sizeof h->reason, "the webhook gave no answer: %s", c->error);
        h->most = MAX(h->batch.count / 2, 1u);
        back_off(h);
}

static void begin(struct worker *w)
{
        static bool is_ready; /* of the loop thread */
        struct hook *h = MEMORY_NEW(struct hook);

        if (!is_ready && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                fault_exit(EXIT_CODE_BUG, "libcurl cannot be used");
        is_ready = true;
        h->worker = w;
        h->most = BATCH_EVENTS_MAX;
        h->backoff = (struct os_timer){.fn = on_backoff, .arg = h};
        w->own = h;
}

/* Takes until the batch is full. 0, or what the consumer said. */
static int fill(struct hook *h)
{
        struct consumer_message m;
        int r = 0;

        while (h->batch.count < h->most && h->batch.events.size < BATCH_SIZE_MAX) {
                r = consumer_next(h->worker->consumer, &m);
                if (r)
                        return r;
                batch_add(&h->batch, &m);
        }
        return 0;
}

static void run(struct worker *w)
{
        struct hook *h = w->own;
        int r;

        if (h->is_calling || h->is_backing_off)
                return;
        r = fill(h);
        if (r && r != CONSUMER_WAIT)
                worker_lost(w);
        else if (h->batch.count)
                post(h);
}

static void end(struct worker *w)
{
        struct hook *h = w->own;

        os_timer_stop(&h->backoff);
        if (h->call && h->is_calling) {
                h->call->hook = NULL;
                atomic_store(&h->call->is_cancelled, true);
        } else if (h->call) {
                call_free(h->call);
        }
        buffer_fini(&h->batch.events);
        free(h);
        w->own = NULL;
}

const struct worker_kind webhook_worker = {
        .window = BATCH_EVENTS_MAX, .begin = begin, .run = run, .end = end};

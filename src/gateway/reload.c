/* Certificates change while the server runs: their files are looked at every few seconds, away from the loop.
 *
 * People replace a certificate and its key one after the other, so files that differ from those in use are
 * read when two looks in a row have seen the same. What cannot be used is told once; the old ones stay in
 * use. */
#include "gateway/room.h"

#include <stdio.h>
#include <time.h>

#define LOOK_US   (2 * SECOND_US)
#define DAY_US    (86400 * SECOND_US)
#define EXPIRY_US (14 * DAY_US) /* before which it is told, once a day */

static void look(struct os_work *work)
{
        struct gateway *g = work->arg;

        tls_context_digest_files(g->tls, g->digest_now);
}

static void date_of(uint64_t wall_us, char ret[32])
{
        time_t t = (time_t)(wall_us / SECOND_US);
        struct tm tm;

        gmtime_r(&t, &tm);
        strftime(ret, 32, "%Y-%m-%d", &tm);
}

static void tell_expiry(struct gateway *g)
{
        uint64_t now_us = os_turn_time(g->os).wall_us;
        struct tls_certificate_info info;
        char date[32];

        if (now_us - g->told_expiry_us < DAY_US)
                return;
        g->told_expiry_us = now_us;
        if (!tls_context_certificate(g->tls, &info) || info.until_us > now_us + EXPIRY_US)
                return;
        date_of(info.until_us, date);
        gateway_fact(g, FACT_tls_expires, "%s %s", info.until_us > now_us ? "on" : "it has expired on", date);
}

void gateway_reload_tls(struct gateway *g)
{
        struct tls_certificate_info info;
        struct tls_problem problem;
        char date[32];
        int r;

        if (!g->tls || g->is_closing)
                return;
        r = tls_context_reload(g->tls, &problem);
        if (r) {
                gateway_fact(g, FACT_tls_reload_failed, "%s", r > 0 ? problem.text : fault_last());
                return;
        }
        if (!tls_context_certificate(g->tls, &info))
                return;
        date_of(info.until_us, date);
        gateway_fact(g, FACT_tls_reloaded, "until %s, for %s", date, info.names);
        g->told_expiry_us = 0;
}

static void looked(struct os_work *work)
{
        struct gateway *g = work->arg;
        bool is_settled = memcmp(g->digest_now, g->digest_before, sizeof g->digest_now) == 0;
        bool is_refused = memcmp(g->digest_now, g->digest_refused, sizeof g->digest_now) == 0;

        g->is_looking = false;
        if (g->is_closing) {
                gateway_check_closed(g);
                return;
        }
        memcpy(g->digest_before, g->digest_now, sizeof g->digest_now);
        if (is_settled && !is_refused && tls_context_is_stale(g->tls, g->digest_now)) {
                gateway_reload_tls(g);
                if (tls_context_is_stale(g->tls, g->digest_now))
                        memcpy(g->digest_refused, g->digest_now, sizeof g->digest_now);
        }
        tell_expiry(g);
        os_timer_start(g->os, &g->look_timer, LOOK_US);
}

static void on_look(struct os_timer *timer)
{
        struct gateway *g = timer->arg;

        g->is_looking = true;
        g->look = (struct os_work){.work = look, .done = looked, .arg = g};
        os_work_submit(g->os, OS_LANE_READ, &g->look);
}

void reload_begin(struct gateway *g)
{
        assert(g->tls);
        g->look_timer = (struct os_timer){.fn = on_look, .arg = g};
        os_timer_start(g->os, &g->look_timer, LOOK_US);
}

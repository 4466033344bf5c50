/* What a command of an operator does to the members, as steps that follow from who they are now: so a command that was cut off
 * is asked again and goes on, on whatever node leads by then. Pure. */
#ifndef MEMBERSHIP_PLANS_H
#define MEMBERSHIP_PLANS_H

#include "store/store.h"

enum { PLAN_STEPS_MAX = 8, PLAN_TEXT_SIZE = 160 };

struct plan_step {
        enum store_change change;
        uint64_t node_id;
        char address[CLUSTER_ADDRESS_SIZE]; /* of STORE_ADD */
};
struct plan {
        struct plan_step steps[PLAN_STEPS_MAX];
        unsigned count;
        char problem[PLAN_TEXT_SIZE]; /* why it cannot be; "" if it can */
};
struct plan_request {
        const char *what;       /* add, promote, demote, remove, transfer, leave, replace */
        uint64_t node_id;       /* that it is about; of replace: the old one */
        uint64_t with_node_id;  /* of replace: the new one */
        const char *address;    /* of add */
        uint64_t leader_id;
        /* By the place in the configuration: can it take leadership? */
        bool is_alive[CLUSTER_MEMBERS_MAX];
};
/* The steps that are left to do; none: it is done. */
void plan_make(const struct cluster_configuration *members, const struct plan_request *request, struct plan *ret);
/* Carries a step out on paper. */
void plan_apply(struct cluster_configuration *members, uint64_t *leader_id, const struct plan_step *step);
/* "promote node 4" */
void plan_step_to_text(const struct plan_step *step, char ret[PLAN_TEXT_SIZE]);

#endif

/* Refusals of a server as results: the three outcomes of a write must not be mixed up (G3). */
#include "client/problem.h"

#include "test.h"

static enum nilo_result read_problem(
        long status, const char *body, struct buffer *detail, struct buffer *next, int64_t *ret_actual)
{
        return problem_read(status, bytes_of_string(body), detail, next, ret_actual);
}

static enum nilo_result result_of(long status, const char *body)
{
        struct buffer detail = {0};
        struct buffer next = {0};
        int64_t actual;
        enum nilo_result result = read_problem(status, body, &detail, &next, &actual);

        buffer_fini(&detail);
        buffer_fini(&next);
        return result;
}

TEST(problem, says_what_and_the_next_step)
{
        struct buffer detail = {0};
        struct buffer next = {0};
        int64_t actual;

        assert_int_equal(read_problem(409,
                                 "{\"type\":\"urn:nilo:conflict\",\"status\":409,\"detail\":\"order-42 is at "
                                 "5\",\"next\":\"Read\","
                                 "\"actual\":5}",
                                 &detail, &next, &actual),
                NILO_CONFLICT);
        assert_string_equal((char *)detail.data, "order-42 is at 5");
        assert_string_equal((char *)next.data, "Read");
        assert_int_equal(actual, 5);
        buffer_fini(&detail);
        buffer_fini(&next);
}

TEST(problem, without_a_body_the_status_speaks)
{
        struct buffer detail = {0};
        struct buffer next = {0};
        int64_t actual;

        assert_int_equal(read_problem(503, "", &detail, &next, &actual), NILO_UNAVAILABLE);
        assert_non_null(strstr((char *)detail.data, "503"));
        assert_string_equal((char *)next.data, "");
        assert_int_equal(actual, -1);
        assert_int_equal(read_problem(500, "<html>no</html>", &detail, &next, &actual), NILO_ERROR);
        assert_non_null(strstr((char *)detail.data, "500"));
        assert_int_equal(read_problem(404, "[1,2]", &detail, &next, &actual), NILO_NOT_FOUND);
        buffer_fini(&detail);
        buffer_fini(&next);
}

TEST(problem, every_status_has_its_result)
{
        static const struct {
                long status;
                enum nilo_result result;
        } rows[] = {
                {400, NILO_INVALID},
                {401, NILO_DENIED},
                {403, NILO_DENIED},
                {404, NILO_NOT_FOUND},
                {405, NILO_INVALID},
                {409, NILO_CONFLICT},
                {410, NILO_DELETED},
                {413, NILO_TOO_LARGE},
                {415, NILO_INVALID},
                {422, NILO_INVALID},
                {429, NILO_BUSY},
                {500, NILO_ERROR},
                {503, NILO_UNAVAILABLE},
                {504, NILO_UNKNOWN},
                {507, NILO_FULL},
                {302, NILO_ERROR},
                {418, NILO_ERROR},
        };

        for (size_t i = 0; i < COUNT_OF(rows); i++)
                assert_int_equal(result_of(rows[i].status, "{}"), rows[i].result);
}

TEST(problem, the_type_is_exacter_than_the_status)
{
        assert_int_equal(result_of(503, "{\"type\":\"urn:nilo:busy\"}"), NILO_BUSY);
        assert_int_equal(result_of(503, "{\"type\":\"urn:nilo:not-ready\"}"), NILO_UNAVAILABLE);
        assert_int_equal(result_of(500, "{\"type\":\"urn:nilo:corrupt\"}"), NILO_CORRUPT);
        assert_int_equal(result_of(504, "{\"type\":\"urn:nilo:unknown\"}"), NILO_UNKNOWN);
        assert_int_equal(
                result_of(504, "{\"type\":\"urn:nilo:not-here-yet\"}"), NILO_UNAVAILABLE); /* of a read */
        assert_int_equal(result_of(409, "{\"type\":\"urn:other:thing\"}"), NILO_CONFLICT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(problem, says_what_and_the_next_step),
                TEST_ROW(problem, without_a_body_the_status_speaks),
                TEST_ROW(problem, every_status_has_its_result),
                TEST_ROW(problem, the_type_is_exacter_than_the_status),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

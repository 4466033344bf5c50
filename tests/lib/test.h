/* What every unit test starts with: cmocka and the names of STYLE.md 10. */
#ifndef TESTS_LIB_TEST_H
#define TESTS_LIB_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* TEST(log, append_after_roll_keeps_positions_dense) { ... } */
#define TEST(noun, story) static void test_##noun##_##story(void **state __attribute__((unused)))

/* A row of the table for cmocka_run_group_tests. */
#define TEST_ROW(noun, story) cmocka_unit_test(test_##noun##_##story)

#endif

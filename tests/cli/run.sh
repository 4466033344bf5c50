#!/bin/sh
# The command line, end to end, against the program that test.sh built, or against $NILO.
cd "$(dirname "$0")/../.." || exit 1
exec tests/lib/node_suite.sh tests/cli/*.test.mjs

#!/bin/sh
# The official client against the server that test.sh built, or against $NILO.
cd "$(dirname "$0")/../.." || exit 1
exec tests/lib/node_suite.sh tests/interop/*.test.mjs

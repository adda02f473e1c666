#!/usr/bin/env bash
# setup-demo.sh [cluster]: what `make run` needs besides Rust: a Python environment with a Kafka client, and the flights;
# for `make cluster` an S3 server, too.
set -euo pipefail
# shellcheck source=scripts/test-cache.sh
. "$(dirname "${BASH_SOURCE[0]}")/test-cache.sh"

mkdir -p "$FIRN_TEST_CACHE"
exec 9>"$FIRN_TEST_CACHE/.lock"
flock 9 # two runs at once share one cache
prepare_python
prepare_flights
[ "${1:-}" != cluster ] || prepare_versitygw

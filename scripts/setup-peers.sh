#!/usr/bin/env bash
# setup-peers.sh: what `make bench-peers` needs besides the benchmark's client: Apache Kafka with LocalTieredStorage and its tools, from
# Maven; VersityGW, an S3 server; and a library that draws.
set -euo pipefail
# shellcheck source=scripts/test-cache.sh
. "$(dirname "${BASH_SOURCE[0]}")/test-cache.sh"

install_peer_jars() {
  need java default-jdk-headless
  need mvn maven
  rm -rf "$FIRN_TEST_CACHE/peer-jars"
  mvn -B -q -Dstyle.color=never -f "$REPO/bench/peers/pom.xml" dependency:copy-dependencies \
    -DoutputDirectory="$FIRN_TEST_CACHE/peer-jars"
}

install_plots() {
  "$FIRN_TEST_CACHE/uv/bin/uv" pip install --quiet --python "$FIRN_TEST_CACHE/venv/bin/python" -r "$REPO/bench/peers/requirements.txt"
}

"$REPO/scripts/setup-bench.sh"
exec 9>"$FIRN_TEST_CACHE/.lock"
flock 9 # two runs at once share one cache
need taskset util-linux
run_step peer-jars "$(cat "$REPO/tests/clients/java/pom.xml" "$REPO/bench/peers/pom.xml" | sha256sum)" install_peer_jars
prepare_versitygw
run_step plots "$(cat "$REPO/tests/clients/requirements.txt" "$REPO/bench/peers/requirements.txt" | sha256sum)" install_plots

#!/usr/bin/env bash
# setup-peers.sh: what `make bench-peers` needs besides the benchmark's client: Apache Kafka with LocalTieredStorage, from Maven.
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

"$REPO/scripts/setup-bench.sh"
exec 9>"$FIRN_TEST_CACHE/.lock"
flock 9 # two runs at once share one cache
need taskset util-linux
run_step peer-jars "$(cat "$REPO/tests/clients/java/pom.xml" "$REPO/bench/peers/pom.xml" | sha256sum)" install_peer_jars

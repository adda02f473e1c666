#!/usr/bin/env bash
# setup-tests.sh: installs everything that `make test` needs besides Rust, into $FIRN_TEST_CACHE (default .cache).
# Idempotent: a step runs again only when its version changes. Everything comes from package registries:
# PyPI, npm, Maven Central, the Go module proxy, crates.io and, for kcat, faketime, ip, nft, strace and missing build tools, Debian.
set -euo pipefail
# shellcheck source=scripts/test-cache.sh
. "$(dirname "${BASH_SOURCE[0]}")/test-cache.sh"

# install_jars POM FOLDER: what the file depends on, into a folder of the cache.
install_jars() {
  need java default-jdk-headless
  need mvn maven
  rm -rf "${FIRN_TEST_CACHE:?}/$2"
  mvn -B -q -Dstyle.color=never -f "$1" dependency:copy-dependencies -DoutputDirectory="$FIRN_TEST_CACHE/$2"
}

install_kafka_python_tests() {
  fetch_sdist kafka-python "$KAFKA_PYTHON_VERSION" kafka-python "$KAFKA_PYTHON_SHA256"
  # The sdist leaves test/service.py out; ours only knows a broker that already runs.
  cp "$REPO/tests/clients/kafka_python_service.py" "$FIRN_TEST_CACHE/kafka-python/test/service.py"
  # Also left out; without it, Python's own package `test` wins.
  touch "$FIRN_TEST_CACHE/kafka-python/test/__init__.py"
}

# An emulator of Azure's store.
install_azurite() {
  need node nodejs
  need npm npm
  rm -rf "$FIRN_TEST_CACHE/azurite"
  mkdir -p "$FIRN_TEST_CACHE/azurite"
  npm install --prefix "$FIRN_TEST_CACHE/azurite" --no-audit --no-fund --silent "azurite@$AZURITE_VERSION"
}

# rskafka's integration tests, compiled once; only the test programs stay in the cache.
install_rskafka_tests() {
  local dir=$FIRN_TEST_CACHE/rskafka build=$FIRN_TEST_CACHE/rskafka-build
  command -v cc >/dev/null 2>&1 || apt_install build-essential
  rm -rf "$dir" "$build"
  mkdir -p "$dir/tests-bin" "$build"
  python3 -c 'import sys, urllib.request as u; u.urlretrieve(sys.argv[1], sys.argv[2])' \
    "https://static.crates.io/crates/rskafka/rskafka-$RSKAFKA_VERSION.crate" "$build/rskafka.crate"
  sha256_check "$build/rskafka.crate" "$RSKAFKA_SHA256"
  tar xzf "$build/rskafka.crate" -C "$build" --strip-components=1
  cp "$REPO/rust-toolchain.toml" "$build/"
  printf '\n[workspace]\n' >>"$build/Cargo.toml"
  (
    cd "$build"
    # The caller's settings (target folder, flags that deny warnings) are not meant for a stranger's code.
    unset CARGO_TARGET_DIR RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    export CARGO_PROFILE_DEV_DEBUG=0
    cargo update --quiet --package rsasl --precise "$RSKAFKA_RSASL_VERSION"
    cargo test --quiet --no-run --tests --message-format=json >messages.json 2>cargo.log || { tail -40 cargo.log >&2; exit 1; }
    python3 - "$dir/tests-bin" <<'PY'
import json, shutil, sys
for line in open("messages.json", encoding="utf-8"):
    message = json.loads(line)
    if message.get("executable") and message["target"]["kind"] == ["test"]:
        shutil.copy(message["executable"], f"{sys.argv[1]}/{message['target']['name']}")
PY
  )
  rm -rf "$build"
}

main() {
  mkdir -p "$FIRN_TEST_CACHE"
  exec 9>"$FIRN_TEST_CACHE/.lock"
  flock 9 # two runs at once share one cache
  prepare_python
  need kcat kcat
  need mkfs.ext4 e2fsprogs
  need xfs_io xfsprogs
  need strace strace
  need faketime faketime
  need ip iproute2
  need nft nftables
  prepare_versitygw
  run_step azurite "$AZURITE_VERSION" install_azurite
  local pom
  pom=$REPO/tests/clients/java/pom.xml
  run_step kafka-tools "$(sha256sum <"$pom")" install_jars "$pom" jars
  pom=$REPO/tests/clients/java/iceberg/pom.xml
  run_step iceberg-client "$(sha256sum <"$pom")" install_jars "$pom" iceberg-jars
  run_step kafka-python "$KAFKA_PYTHON_VERSION $(sha256sum <"$REPO/tests/clients/kafka_python_service.py")" install_kafka_python_tests
  run_step rskafka "$RSKAFKA_VERSION $RSKAFKA_RSASL_VERSION $(sha256sum <"$REPO/rust-toolchain.toml")" install_rskafka_tests
  prepare_flights
}

main "$@"

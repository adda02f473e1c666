#!/usr/bin/env bash
# setup-bench.sh: what `make bench` needs besides the server: a Python environment and the client that every broker is measured with.
set -euo pipefail
# shellcheck source=scripts/test-cache.sh
. "$(dirname "${BASH_SOURCE[0]}")/test-cache.sh"

# The checksum of everything that the client is made of.
client_key() { cat "$REPO/rust-toolchain.toml" "$REPO"/bench/client/Cargo.* "$REPO"/bench/client/src/*.rs | sha256sum; }

install_client() {
  command -v cc >/dev/null 2>&1 && command -v make >/dev/null 2>&1 || apt_install build-essential
  local target=${CARGO_TARGET_DIR:-$REPO/target}/bench-client
  # The caller's flags that deny warnings are not meant for librdkafka.
  env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR="$target" \
    cargo build --quiet --locked --release --manifest-path "$REPO/bench/client/Cargo.toml"
  mkdir -p "$FIRN_TEST_CACHE/bin"
  cp "$target/release/firn-bench-client" "$FIRN_TEST_CACHE/bin/"
}

mkdir -p "$FIRN_TEST_CACHE"
exec 9>"$FIRN_TEST_CACHE/.lock"
flock 9 # two runs at once share one cache
prepare_python
run_step bench-client "$(client_key)" install_client

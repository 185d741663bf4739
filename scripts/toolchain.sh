# Sourced by the other scripts: makes sure that this machine can build snapmerge.
#
# After it, plain `cargo` is at least as new as rust-version in Cargo.toml and has rustfmt and clippy,
# a C compiler and libclang are there (the engine builds C, libclang makes the bindings to RocksDB), and
# build output has a folder outside the checkout, so that a fresh clone starts warm. What is there already
# is used as it is, silently; whatever has to be changed is announced in one line each. Network: rustup's
# own server and Debian's packages, no other.
#
# The caller has `set -euo pipefail`. Nothing here is meant for any other shell than bash.

toolchain_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where Debian's packages put cargo, rustc and the rest; only the test of this file sets another place.
toolchain_system=${SNAPMERGE_SYSTEM_PREFIX:-/usr}

toolchain_say() { printf 'toolchain: %s\n' "$*" >&2; }

# toolchain_fail WHAT NEXT: the error of every script that stops here.
toolchain_fail() {
  toolchain_say "error: $1"
  toolchain_say "       $2"
  return 1
}

# toolchain_needed: the number in Cargo.toml, the only place that has it.
toolchain_needed() {
  local needed
  needed=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$toolchain_root/Cargo.toml")
  [ -n "$needed" ] || { toolchain_fail "Cargo.toml names no rust-version" "restore that line"; return 1; }
  printf '%s\n' "$needed"
}

# toolchain_at_least HAVE NEED: compares major and minor ("1.96.0+dfsg1-1" has 1 and 96).
toolchain_at_least() {
  local have_major have_minor need_major need_minor _
  IFS=.- read -r have_major have_minor _ <<<"$1"
  IFS=.- read -r need_major need_minor _ <<<"$2"
  [[ $have_major =~ ^[0-9]+$ && $have_minor =~ ^[0-9]+$ ]] || return 1
  ((have_major > need_major || (have_major == need_major && have_minor >= need_minor)))
}

# toolchain_complete COMMAND...: does `COMMAND... cargo` name a toolchain that is new enough and whole?
# (`env` in front for the plain one, `rustup run stable` for one of rustup's.)
toolchain_complete() {
  local tool version
  for tool in cargo rustc; do
    version=$("$@" "$tool" --version 2>/dev/null) || return 1
    version=${version#"$tool "}
    toolchain_at_least "${version%% *}" "$toolchain_min" || return 1
  done
  # An older rustfmt on PATH beside a new cargo still answers here; its version has no relation to
  # the compiler's, so being there is all that can be asked.
  "$@" cargo fmt --version >/dev/null 2>&1 && "$@" cargo clippy --version >/dev/null 2>&1
}

toolchain_plain_version() {
  cargo --version 2>/dev/null || printf 'none\n'
}

# toolchain_as_default NAME: makes plain `cargo` be rustup's toolchain NAME, for good if that is enough.
toolchain_as_default() {
  toolchain_say "making rustup's '$1' the default, because plain cargo is $(toolchain_plain_version) and $toolchain_min is needed"
  rustup default "$1" >/dev/null 2>&1 || return 1
  hash -r
  toolchain_complete env && return 0
  # RUSTUP_TOOLCHAIN or a directory override stands above the default, and is the user's own choice.
  toolchain_say "something stands above rustup's default here (RUSTUP_TOOLCHAIN, or 'rustup override list'): using '$1' for this run only"
  export RUSTUP_TOOLCHAIN=$1
  toolchain_complete env
}

toolchain_by_rustup() {
  command -v rustup >/dev/null 2>&1 || return 1
  if ! toolchain_complete rustup run stable; then
    toolchain_say "updating rustup's stable, with rustfmt and clippy (plain cargo is $(toolchain_plain_version); $toolchain_min is needed)"
    # A machine that cannot reach rustup's server may hang here; Debian's packages are still to be tried.
    timeout 900 rustup update stable --no-self-update >&2 ||
      { toolchain_say "rustup could not update stable; looking at Debian's packages"; return 1; }
    # A profile without them, or a stable that was installed with the minimal one.
    timeout 900 rustup component add --toolchain stable rustfmt clippy >/dev/null 2>&1 || true
    hash -r
    toolchain_complete env && return 0
    toolchain_complete rustup run stable || return 1
  fi
  toolchain_as_default stable
}

# toolchain_root_run COMMAND...: as root, however that is to be had.
toolchain_root_run() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    toolchain_fail "'$*' needs root, and there is no sudo" "run it as root, then this script again"
  fi
}

# toolchain_apt PACKAGE...: quiet unless it fails.
toolchain_apt() {
  toolchain_say "installing Debian's $*"
  toolchain_root_run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

# toolchain_apt_fresh PACKAGE...: the same where there may be no package lists yet, or old ones.
toolchain_apt_fresh() {
  toolchain_apt "$@" || { toolchain_root_run apt-get update -q >/dev/null && toolchain_apt "$@"; } || true
  hash -r
}

toolchain_candidate() {
  apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9].*\)/\1/p'
}

# The sets of packages that make one whole toolchain; Debian keeps a newer one (-web, for browsers)
# beside the one of the release. The first package's version speaks for the set.
toolchain_debian_sets=("cargo-web rustc-web rustfmt-web rust-web-clippy" "cargo rustc rustfmt rust-clippy")

# toolchain_debian_pick: the first set that is new enough, "" if there is none.
toolchain_debian_pick() {
  local set version
  for set in "${toolchain_debian_sets[@]}"; do
    version=$(toolchain_candidate "${set%% *}")
    if [ -n "$version" ] && toolchain_at_least "$version" "$toolchain_min"; then
      printf '%s\n' "$set"
      return 0
    fi
  done
}

toolchain_by_debian() {
  local bin=$toolchain_system/bin set
  if ! toolchain_complete env PATH="$bin:$PATH"; then
    command -v apt-get >/dev/null 2>&1 && command -v apt-cache >/dev/null 2>&1 || return 1
    set=$(toolchain_debian_pick)
    if [ -z "$set" ]; then
      # A fresh machine or container has no package lists yet.
      toolchain_root_run apt-get update -q >/dev/null || return 1
      set=$(toolchain_debian_pick)
    fi
    [ -n "$set" ] || return 1
    # shellcheck disable=SC2086  # a set is a list of words
    toolchain_apt $set || return 1
    hash -r
    toolchain_complete env && return 0
    toolchain_complete env PATH="$bin:$PATH" || return 1
  fi
  if command -v rustup >/dev/null 2>&1; then
    # rustup's cargo stands first on PATH: linked, Debian's becomes one of rustup's own toolchains,
    # so that plain cargo is it, here and afterwards.
    rustup toolchain link debian "$toolchain_system" >/dev/null 2>&1 && toolchain_as_default debian && return 0
  fi
  toolchain_say "an older cargo stands before $bin on PATH: putting $bin first for this run only"
  export PATH="$bin:$PATH"
  hash -r
  toolchain_complete env
}

toolchain_rust() {
  toolchain_complete env && return 0
  toolchain_by_rustup && return 0
  toolchain_by_debian && return 0
  toolchain_fail "no Rust $toolchain_min or newer with cargo, rustfmt and clippy (plain cargo is $(toolchain_plain_version))" \
    "install it from https://rustup.rs, or your distribution's packages of that version, then run this again"
}

toolchain_c() {
  command -v cc >/dev/null 2>&1 && return 0
  if command -v apt-get >/dev/null 2>&1; then
    toolchain_apt_fresh build-essential
    command -v cc >/dev/null 2>&1 && return 0
  fi
  toolchain_fail "no C compiler: there is no 'cc', and the storage engine builds C" \
    "install one (Debian: build-essential, Fedora: gcc, macOS: xcode-select --install), then run this again"
}

# toolchain_has_libclang: where bindgen looks (clang-sys: LIBCLANG_PATH, llvm-config, the usual folders).
toolchain_has_libclang() {
  [ -z "${LIBCLANG_PATH:-}" ] && ! command -v llvm-config >/dev/null 2>&1 || return 0
  local file
  for file in "$toolchain_system"/{lib,lib64,lib/*-linux-gnu,lib/llvm*/lib,local/lib}/libclang{,-*}.so*; do
    [ ! -e "$file" ] || return 0
  done
  # Apple's command line tools have one.
  [[ $OSTYPE == darwin* ]]
}

toolchain_libclang() {
  toolchain_has_libclang && return 0
  if command -v apt-get >/dev/null 2>&1; then
    toolchain_apt_fresh libclang-dev
    toolchain_has_libclang && return 0
  fi
  toolchain_fail "there is no libclang, which makes the bindings to RocksDB (snapshots of Qdrant before 1.16)" \
    "install it (Debian: libclang-dev, Fedora: clang-devel) or name its folder in LIBCLANG_PATH, then run this again"
}

# toolchain_target: one folder for build output, for these scripts and for plain cargo afterwards.
toolchain_target() {
  [ -z "${CARGO_TARGET_DIR:-}" ] || return 0
  export CARGO_TARGET_DIR=${XDG_CACHE_HOME:-$HOME/.cache}/snapmerge/target
  local config=$toolchain_root/.cargo/config.toml
  # A file that is there is the user's. A quote in the path would end the literal string below.
  if [ ! -e "$config" ] && [[ $CARGO_TARGET_DIR != *"'"* ]]; then
    mkdir -p "$toolchain_root/.cargo" 2>/dev/null &&
      printf '%s\n' '# Written by scripts/toolchain.sh and git-ignored: plain cargo builds where the scripts do.' \
        '[build]' "target-dir = '$CARGO_TARGET_DIR'" 2>/dev/null >"$config" ||
      toolchain_say "could not write $config: plain cargo will build in target/"
  fi
}

toolchain_min=$(toolchain_needed)
toolchain_rust
toolchain_c
toolchain_libclang
toolchain_target

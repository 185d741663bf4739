#!/usr/bin/env bash
# Tests scripts/toolchain.sh on machines that this one is not: every case is a checkout and a PATH of
# its own, where cargo, rustc, rustup, apt-get, apt-cache, sudo and cc are stand-ins that keep their
# state in files and log what was asked of them. Touches nothing outside a temporary folder and needs
# no network. The suite runs it (tests/suite/house); exit code 0 when every case holds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 passed=0

# The stand-in for all tools; it is told by its name which one it is.
cat >"$work/stand-in" <<'SHIM'
#!/usr/bin/env bash
# $STATE/toolchains/NAME holds the version of rustup's toolchain NAME, $STATE/default the default's
# name, $STATE/candidate the version of cargo-web, $STATE/stable what `rustup update` would bring.
name=${0##*/}
[ "$name" = cargo ] || [ "$name" = rustc ] || echo "$name $*" >>"$STATE/log"
case $name in
cargo | rustc)
  if [ "${0%/*}" = "$STATE/system/bin" ]; then
    version=$(cat "$STATE/system/version")
  else
    version=$(cat "$STATE/toolchains/${RUSTUP_TOOLCHAIN:-$(cat "$STATE/default")}" 2>/dev/null) || exit 1
  fi
  case "$*" in
  --version) echo "$name $version (0000000 2026-01-01)" ;;
  "fmt --version" | "clippy --version") [ ! -e "$STATE/bare" ] ;;
  esac ;;
rustup)
  case "$*" in
  "run "*) shift; toolchain=$1; shift; [ -e "$STATE/toolchains/$toolchain" ] && RUSTUP_TOOLCHAIN=$toolchain exec "$@" ;;
  "default "*) echo "$2" >"$STATE/default" ;;
  "update stable"*) [ -e "$STATE/stable" ] && cat "$STATE/stable" >"$STATE/toolchains/stable" ;;
  "component add "*) rm -f "$STATE/bare" ;;
  "toolchain link "*) cat "$4/version" >"$STATE/toolchains/$3" ;;
  esac ;;
apt-cache) [ "$2" = cargo-web ] && [ -e "$STATE/candidate" ] && printf 'cargo-web:\n  Installed: (none)\n  Candidate: %s\n' "$(cat "$STATE/candidate")" ;;
apt-get)
  case "$*" in
  *update*) if [ -e "$STATE/lists" ]; then mv "$STATE/lists" "$STATE/candidate"; fi ;;
  *cargo-web*) mkdir -p "$STATE/system/bin" && cat "$STATE/candidate" >"$STATE/system/version" &&
    ln -sf "$STAND_IN" "$STATE/system/bin/cargo" && ln -sf "$STAND_IN" "$STATE/system/bin/rustc" ;;
  *build-essential*) ln -sf "$STAND_IN" "$BIN/cc" ;;
  *libclang-dev*) mkdir -p "$STATE/system/lib/llvm-14/lib" && : >"$STATE/system/lib/llvm-14/lib/libclang-14.so.1" ;;
  esac ;;
sudo) exec "$@" ;;
esac
SHIM
chmod +x "$work/stand-in"

# machine NAME TOOL...: a new machine with these stand-ins and nothing else that matters.
machine() {
  case_name=$1 STATE=$work/$1 BIN=$work/$1/bin
  shift
  mkdir -p "$BIN" "$STATE/toolchains" "$STATE/checkout/scripts" "$STATE/user" "$STATE/system/lib"
  : >"$STATE/system/lib/libclang.so"
  local tool
  for tool in bash env sed cat dirname mkdir rm mv ln timeout id; do ln -s "$(command -v "$tool")" "$BIN/$tool"; done
  for tool in "$@"; do ln -s "$work/stand-in" "$BIN/$tool"; done
  cp "$here/toolchain.sh" "$STATE/checkout/scripts/"
  printf '[package]\nname = "x"\nrust-version = "1.96"\n' >"$STATE/checkout/Cargo.toml"
  : >"$STATE/log"
}

# source_it [VAR=VALUE...]: what a script does; leaves the exit code, what it said and where plain cargo is then.
source_it() {
  local code=0
  env -i HOME="$STATE/user" STATE="$STATE" BIN="$BIN" STAND_IN="$work/stand-in" PATH="$BIN:$STATE/system/bin" \
    SNAPMERGE_SYSTEM_PREFIX="$STATE/system" "$@" bash -euo pipefail -c \
    '. "$STATE/checkout/scripts/toolchain.sh"; echo "$(cargo --version) | $CARGO_TARGET_DIR"' \
    >"$STATE/out" 2>"$STATE/err" || code=$?
  echo "$code" >"$STATE/code"
}

# expect WHAT CONDITION...: one check of the current machine.
expect() {
  local what=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED %s: %s\n' "$case_name" "$what" >&2
    sed 's/^/    /' "$STATE/code" "$STATE/out" "$STATE/err" "$STATE/log" >&2
  fi
}
succeeds_with() { [ "$(cat "$STATE/code")" = 0 ] && [[ $(cat "$STATE/out") == "cargo $1 "* ]]; }
fails() { [ "$(cat "$STATE/code")" != 0 ] && [ ! -s "$STATE/out" ]; }
said() { grep -qF -- "$1" "$STATE/err"; }
silent() { [ ! -s "$STATE/err" ]; }
asked() { grep -qE -- "$1" "$STATE/log"; }
never_asked() { ! asked "$1"; }
file_has() { grep -qF -- "$2" "$1"; }

machine new-enough cargo rustc rustup apt-get apt-cache cc
echo stable >"$STATE/default"; echo 1.96.0 >"$STATE/toolchains/stable"
source_it
expect "uses what is there" succeeds_with 1.96.0
expect "says nothing" silent
expect "asks nobody" [ ! -s "$STATE/log" ]
expect "builds outside the checkout" file_has "$STATE/out" "$STATE/user/.cache/snapmerge/target"
expect "plain cargo does too" file_has "$STATE/checkout/.cargo/config.toml" "target-dir = '$STATE/user/.cache/snapmerge/target'"
echo mine >"$STATE/checkout/.cargo/config.toml"
source_it XDG_CACHE_HOME="$STATE/cache"
expect "leaves the user's config.toml" file_has "$STATE/checkout/.cargo/config.toml" mine
expect "follows XDG_CACHE_HOME" file_has "$STATE/out" "$STATE/cache/snapmerge/target"
rm -r "$STATE/checkout/.cargo"
source_it CARGO_TARGET_DIR=/elsewhere
expect "leaves the user's CARGO_TARGET_DIR" file_has "$STATE/out" "| /elsewhere"
expect "and writes no config.toml then" [ ! -e "$STATE/checkout/.cargo/config.toml" ]

machine two-digits-matter cargo rustc apt-get apt-cache cc
echo x >"$STATE/default"; echo 1.100.0 >"$STATE/toolchains/x"
source_it
expect "1.100 is newer than 1.96" succeeds_with 1.100.0

machine old-default cargo rustc rustup cc
echo old >"$STATE/default"; echo 1.95.0 >"$STATE/toolchains/old"; echo 1.97.0 >"$STATE/toolchains/stable"
source_it
expect "takes the stable that is there" succeeds_with 1.97.0
expect "without the network" never_asked 'rustup update'
expect "says that the default changes" said "making rustup's 'stable' the default"
source_it
expect "the second time there is nothing to do" silent

machine old-stable cargo rustc rustup apt-get apt-cache cc
echo stable >"$STATE/default"; echo 1.90.0 >"$STATE/toolchains/stable"; echo 1.99.1 >"$STATE/stable"
source_it RUSTUP_AUTO_INSTALL=0
expect "updates stable" succeeds_with 1.99.1
expect "the default needs no change" never_asked 'rustup default'
expect "apt is not asked" never_asked apt

machine pinned-by-environment cargo rustc rustup cc
echo stable >"$STATE/default"; echo 1.95.0 >"$STATE/toolchains/pinned"; echo 1.99.1 >"$STATE/toolchains/stable"
source_it RUSTUP_TOOLCHAIN=pinned
expect "goes past RUSTUP_TOOLCHAIN" succeeds_with 1.99.1
expect "and says so" said "for this run only"

machine no-clippy cargo rustc rustup cc
echo stable >"$STATE/default"; echo 1.99.1 >"$STATE/toolchains/stable"; cp "$STATE/toolchains/stable" "$STATE/stable"; : >"$STATE/bare"
source_it
expect "adds what is missing" asked 'rustup component add .*clippy'
expect "and then is whole" succeeds_with 1.99.1

machine rustup-offline cargo rustc rustup apt-get apt-cache sudo cc
echo stable >"$STATE/default"; echo 1.90.0 >"$STATE/toolchains/stable"; echo '1.96.0+dfsg1-1~deb12u2' >"$STATE/candidate"
source_it
expect "takes Debian's packages" asked 'apt-get install .*cargo-web rustc-web rustfmt-web rust-web-clippy'
expect "links them" asked 'rustup toolchain link debian'
expect "plain cargo is Debian's" succeeds_with '1.96.0+dfsg1-1~deb12u2'

machine debian-only apt-get apt-cache sudo cc
echo '1.96.0+dfsg1-1' >"$STATE/lists"
source_it
expect "fetches the package lists when there are none" asked 'apt-get update'
expect "and finds cargo" succeeds_with '1.96.0+dfsg1-1'

machine debian-too-old apt-get apt-cache sudo cc
echo 1.85.0 >"$STATE/candidate"
source_it
expect "an old package is no help" fails
expect "it is not installed" never_asked 'apt-get install'
expect "the error names the number" said "no Rust 1.96 or newer"
expect "and the way out" said "https://rustup.rs"

machine nothing-at-all
source_it
expect "stops" fails
expect "with the way out" said "https://rustup.rs"

machine no-c-compiler cargo rustc apt-get apt-cache sudo
echo x >"$STATE/default"; echo 1.96.0 >"$STATE/toolchains/x"
source_it
expect "installs one" asked 'apt-get install .*build-essential'
expect "and goes on" succeeds_with 1.96.0

machine no-c-compiler-elsewhere cargo rustc
echo x >"$STATE/default"; echo 1.96.0 >"$STATE/toolchains/x"
source_it
expect "stops" fails
expect "says what is missing" said "no C compiler"

machine no-libclang cargo rustc apt-get apt-cache sudo cc
echo x >"$STATE/default"; echo 1.96.0 >"$STATE/toolchains/x"; rm "$STATE/system/lib/libclang.so"
source_it LIBCLANG_PATH=/elsewhere
expect "believes LIBCLANG_PATH" never_asked apt
source_it
expect "installs it" asked 'apt-get install .*libclang-dev'
expect "and goes on" succeeds_with 1.96.0
source_it
expect "once" silent

machine no-libclang-elsewhere cargo rustc cc
echo x >"$STATE/default"; echo 1.96.0 >"$STATE/toolchains/x"; rm "$STATE/system/lib/libclang.so"
source_it
expect "stops" fails
expect "says what is missing" said "no libclang"
expect "and the way out" said "LIBCLANG_PATH"

printf 'toolchain-test: %d checks passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]

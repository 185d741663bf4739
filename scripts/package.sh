#!/usr/bin/env bash
# Makes what people install: a wheel for pip, a Debian package (program, man pages, completions, systemd units), an
# archive with the program for cargo-binstall and whoever has neither, the list of all crates in them (an SBOM in
# CycloneDX's JSON), and their checksums.
#
#   scripts/package.sh                  into a new temporary folder
#   scripts/package.sh FOLDER           into FOLDER
#   scripts/package.sh --test FOLDER    and then installs each beside the system, and merges with it
#
# SNAPMERGE_SIGN_KEY_FILE names an ed25519 key (PEM): SHA256SUMS is signed with it, as SHA256SUMS.sig
# (openssl pkeyutl -verify -pubin -inkey PUBLIC -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig).
# maturin comes from PyPI, cargo-deb and cargo-cyclonedx from crates.io, beside what cargo builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

try=0
[ "${1:-}" != --test ] || { try=1; shift; }
[ $# -le 1 ] && [[ ${1:-} != -* ]] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
out=${1:-$(mktemp -d "${TMPDIR:-/tmp}/snapmerge-package.XXXXXX")}
mkdir -p "$out"
out=$(cd "$out" && pwd)

. scripts/toolchain.sh
tools=$CARGO_TARGET_DIR/tools
SNAPMERGE_COMMIT=$(git rev-parse HEAD 2>/dev/null) && export SNAPMERGE_COMMIT || unset SNAPMERGE_COMMIT

[ -x "$tools/bin/python" ] || python3 -m venv "$tools"
[ -x "$tools/bin/maturin" ] || "$tools/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.7,<2'
[ -x "$tools/bin/cargo-deb" ] ||
  cargo install cargo-deb --version '^3' --locked --root "$tools" --target-dir "$tools/build"
[ -x "$tools/bin/cargo-cyclonedx" ] ||
  cargo install cargo-cyclonedx --version '^0.5' --locked --root "$tools" --target-dir "$tools/build"
rm -rf "$tools/build"
export PATH=$tools/bin:$PATH

echo "package: the program"
cargo build --locked --bin snapmerge
program=$CARGO_TARGET_DIR/debug/snapmerge
# What the Debian package takes besides; a folder of the target, since Cargo.toml names it.
made=$CARGO_TARGET_DIR/release/package
rm -rf "$made"
mkdir -p "$made/completions"
"$program" man "$made/man"
for shell in bash zsh fish; do
  "$program" completions "$shell" >"$made/completions/$shell"
done
gzip -9 -n -r "$made/man"
strip -o "$CARGO_TARGET_DIR/release/snapmerge" "$program"

echo "package: the wheel"
rm -f "$out"/snapmerge-*.{whl,tar.gz} "$out"/snapmerge_*.deb "$out"/snapmerge.cdx.json
maturin build --quiet --out "$out"
echo "package: the Debian package"
cargo deb --quiet --no-build --no-strip --output "$out"
echo "package: the archive"
# As [package.metadata.binstall] in Cargo.toml says.
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
name=snapmerge-$version-$(rustc --version --verbose | sed -n 's/^host: //p')
tree=$CARGO_TARGET_DIR/release/archive
rm -rf "$tree"
mkdir -p "$tree/$name"
cp -r "$CARGO_TARGET_DIR/release/snapmerge" "$made/man" "$made/completions" README.md CHANGELOG.md LICENSE "$tree/$name"
tar --create --gzip --file "$out/$name.tar.gz" --directory "$tree" --sort=name --owner=0 --group=0 --numeric-owner "$name"
rm -rf "$tree"
echo "package: the SBOM"
# It is written beside Cargo.toml, wherever one asks for it.
cargo cyclonedx --quiet --format json --spec-version 1.5 --override-filename snapmerge.cdx
mv snapmerge.cdx.json "$out"
(cd "$out" && sha256sum snapmerge-*.{whl,tar.gz} snapmerge_*.deb snapmerge.cdx.json >SHA256SUMS)
if [ -n "${SNAPMERGE_SIGN_KEY_FILE:-}" ]; then
  openssl pkeyutl -sign -inkey "$SNAPMERGE_SIGN_KEY_FILE" -rawin -in "$out/SHA256SUMS" -out "$out/SHA256SUMS.sig"
fi

# works PROGRAM: it says its version and merges two albums.
works() {
  local master=$trial/$RANDOM.snapshot
  "$1" --version | head -n 1
  "$1" merge -q fixtures/album_2017.snapshot.gz fixtures/album_2018.snapshot.gz -o "$master"
  "$1" verify -q "$master" --against fixtures/album_2017.snapshot.gz fixtures/album_2018.snapshot.gz
}
if [ "$try" = 1 ]; then
  trial=$(mktemp -d "${TMPDIR:-/tmp}/snapmerge-installed.XXXXXX")
  trap 'rm -rf "$trial"' EXIT
  python3 -m venv "$trial/venv"
  start=$(date +%s%N)
  "$trial/venv/bin/pip" install --quiet --no-index --disable-pip-version-check "$out"/snapmerge-*.whl
  works "$trial/venv/bin/snapmerge"
  echo "package: from pip install to a verified master: $((($(date +%s%N) - start) / 1000000)) ms"
  dpkg-deb --extract "$out"/snapmerge_*.deb "$trial/tree"
  works "$trial/tree/usr/bin/snapmerge"
  tar --extract --file "$out/$name.tar.gz" --directory "$trial"
  works "$trial/$name/snapmerge"
  grep -q '"name": "qdrant-edge"' "$out/snapmerge.cdx.json" ||
    { echo "package: the SBOM lacks the storage engine" >&2; exit 1; }
  for file in share/man/man1/snapmerge-merge.1.gz share/man/man7/snapmerge-disaster.7.gz \
    share/bash-completion/completions/snapmerge lib/systemd/system/snapmerge.timer; do
    [ -s "$trial/tree/usr/$file" ] || { echo "package: the Debian package lacks $file" >&2; exit 1; }
  done
fi
ls -l "$out"

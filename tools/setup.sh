#!/bin/sh
# Installs what Nilometer needs on a bare Debian 12 or 13, and nothing when it is all there (then it needs no network and no rights).
#   tools/setup.sh        what a build needs
#   tools/setup.sh test   what the tests need too
set -eu

raft_version=0.22.1
build_packages="build-essential meson ninja-build pkg-config protobuf-compiler protobuf-c-compiler
        libuv1-dev libnghttp2-dev libprotobuf-c-dev libhttp-parser-dev libjansson-dev libyaml-dev
        libcmocka-dev libpcre2-dev libxxhash-dev libssl-dev libcurl4-openssl-dev libargon2-dev"
test_packages="python3 python3-venv clang clang-format libclang-rt-dev curl strace nghttp2-client procps iproute2 ca-certificates systemd"

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c1-2)" = ii ]; }
version_of() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }

raft_is_right() {
        case "$(version_of libraft-dev)" in
        "$raft_version" | "$raft_version"[-+~]*) installed libraft-dev ;;
        *) return 1 ;;
        esac
}

node_is_right() {
        command -v npm >/dev/null 2>&1 || return 1
        major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p')
        [ "${major:-0}" -ge 18 ]
}

as_root() {
        if [ "$(id -u)" = 0 ]; then
                "$@"
        else
                sudo "$@"
        fi
}

# Waits for another package manager instead of failing: first boots often run one of their own.
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }

install() {
        say "installing $*"
        apt install --no-install-recommends "$@" >"$log" 2>&1 && return
        cat "$log" >&2
        die "the packages above could not be installed"
}

# On Debian 12 the right libraft is in the backports suite. It is fetched from wherever this machine already gets the
# release itself, with the same key, so that mirrors and closed networks keep working.
add_backports() {
        suite=$1-backports
        # One line per configured index: where from, which suite, which file says so.
        indexes=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(SOURCESENTRY)' 'Created-By: Packages')
        if printf '%s\n' "$indexes" | awk -v s="$suite" '$2 == s { found = 1 } END { exit !found }'; then
                return
        fi
        main=$(printf '%s\n' "$indexes" | awk -v s="$1" '$2 == s { print; exit }')
        [ -n "$main" ] || die "apt has no source for $1, so the source of $suite cannot be derived: add $suite and run again"
        uri=$(printf '%s\n' "$main" | cut -d' ' -f1)
        entry=$(printf '%s\n' "$main" | cut -d' ' -f3)
        file=${entry%:*}
        key=
        case $file in
        *.sources) key=$(sed -n 's/^Signed-By:[[:space:]]*\(\/.*\)$/\1/p' "$file" | head -n 1) ;;
        *) key=$(sed -n 's/^deb .*signed-by=\([^] ]*\).*/\1/p' "$file" | head -n 1) ;;
        esac
        say "adding the suite $suite, for libraft $raft_version"
        {
                printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$suite"
                [ -z "$key" ] || printf 'Signed-By: %s\n' "$key"
        } | as_root tee /etc/apt/sources.list.d/nilometer-backports.sources >/dev/null
        updated=
}

update() {
        [ -z "$updated" ] || return 0
        say "reading the package lists"
        apt update >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update failed"; }
        updated=yes
}

case "${1:-build}" in
build) packages=$build_packages ;;
test) packages="$build_packages $test_packages" ;;
*) die "usage: tools/setup.sh [build|test]" ;;
esac

missing=
for package in $packages; do
        installed "$package" || missing="$missing $package"
done
if [ "${1:-build}" = test ] && ! node_is_right; then
        missing="$missing nodejs npm"
fi
if [ -z "$missing" ] && raft_is_right; then
        exit 0
fi

command -v apt-get >/dev/null 2>&1 || die "this is not a Debian system. Needed:$missing libraft-dev $raft_version"
[ "$(id -u)" = 0 ] || command -v sudo >/dev/null 2>&1 || die "root or sudo is needed to install:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
updated=

# shellcheck disable=SC2086 # a list of names on purpose
if [ -n "$missing" ]; then
        update
        install $missing
fi

if ! raft_is_right; then
        codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
        if [ "$codename" = bookworm ]; then
                add_backports "$codename"
                update
                install -t "$codename-backports" libraft-dev
        else
                update
                install libraft-dev
        fi
        raft_is_right || die "libraft must be exactly $raft_version, this machine offers $(version_of libraft-dev)." \
                "Any other version is refused: 0.15 loses acknowledged events, later code changes memory ownership." \
                "Debian 12 (backports) and Debian 13 have the right one."
fi
node_is_right || [ "${1:-build}" != test ] || die "node 18 or newer and npm are needed, this machine has $(node --version 2>&1)"
say "ready"

#!/bin/bash
# TLS for clients as two scanners see it: testssl.sh and sslscan of Debian against a server off loopback with the certificate
# that it makes for itself. A finding above LOW fails, but for those that are named below with their reasons.
#   tests/security/tls.sh [NILO]
# The last line is `N passed, N failed, N skipped`.
set -u
cd "$(dirname "$0")/../.." || exit 1

nilo=$(realpath "${1:-${NILO:-build/nilo}}")
# cert_revocation: the CA is this node's or cluster's own and nobody else's, so there is no public service to ask; its
# certificates are replaced together with it. Operators with a CA that has one give its certificate by --tls-certificate.
accepted="cert_revocation"

work=$(mktemp -d)
passed=0 failed=0 skipped=0 server=
finish() {
        [ -z "$server" ] || kill "$server" 2>/dev/null
        wait 2>/dev/null
        rm -rf "$work"
}
trap finish EXIT

ok() { passed=$((passed + 1)); echo "ok: $*"; }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }
skip() { skipped=$((skipped + 1)); echo "SKIP: $*"; }
expect() { # NAME COMMAND...
        local name=$1
        shift
        if "$@"; then ok "$name"; else bad "$name"; fi
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
apt() { as_root env DEBIAN_FRONTEND=noninteractive timeout 120 apt-get -q -y -o DPkg::Lock::Timeout=60 "$@" >>"$work/apt.log" 2>&1; }
install_missing() {
        local missing=
        command -v testssl >/dev/null || missing="testssl.sh"
        command -v sslscan >/dev/null || missing="$missing sslscan"
        [ -n "$missing" ] || return
        # shellcheck disable=SC2086 # a list of names on purpose
        apt install --no-install-recommends $missing || { apt update && apt install --no-install-recommends $missing; }
}

start_server() {
        "$nilo" --data "$work/data" --listen 0.0.0.0 --port 0 --json >"$work/said" 2>"$work/log" &
        server=$!
        for _ in $(seq 200); do
                port=$(sed -n 's/.*"port":\([0-9]*\).*/\1/p' "$work/said" | head -n 1)
                [ -z "$port" ] || return 0
                kill -0 "$server" 2>/dev/null || break
                sleep 0.1
        done
        cat "$work/log"
        return 1
}

# Every finding of testssl.sh above LOW that is not accepted, a line each; a scan that broke off is one, too.
findings() {
        python3 - "$work/testssl.json" "$accepted" <<'PYTHON'
import json
import sys

try:
    findings = json.load(open(sys.argv[1], encoding="utf-8"))
except (OSError, ValueError) as problem:
    sys.exit(f"the report cannot be read: {problem}")
accepted = sys.argv[2].split()
ids = {f["id"] for f in findings}
worse = [f for f in findings if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")]
for f in worse:
    print(("accepted" if f["id"] in accepted else "found"), f["severity"], f["id"], f["finding"])
missing = [i for i in ("TLS1_2", "TLS1_3", "heartbleed", "secure_client_renego", "cert_chain_of_trust") if i not in ids]
if missing:
    print("found: the scan did not come to", *missing)
sys.exit(1 if missing or any(f["id"] not in accepted for f in worse) else 0)
PYTHON
}

scan_testssl() {
        timeout 300 testssl --quiet --color 0 --warnings off --nodns none --ip 127.0.0.1 --add-ca "$work/data/certs/ca.pem" \
                --jsonfile "$work/testssl.json" \
                -p -s -f -P -S -h -U \
                "localhost:$port" >"$work/testssl.txt" 2>&1
        if findings; then
                ok "testssl.sh: no finding above LOW"
        else
                bad "testssl.sh"
                cat "$work/testssl.txt"
        fi
}

has() { grep -Eq -- "$1" "$work/sslscan.txt"; }
has_not() { ! has "$1"; }
scan_sslscan() {
        timeout 60 sslscan --no-colour --show-certificate "localhost:$port" >"$work/sslscan.txt" 2>&1
        for version in SSLv2 SSLv3 TLSv1.0 TLSv1.1; do expect "sslscan: $version is off" has "^$version +disabled"; done
        for version in TLSv1.2 TLSv1.3; do expect "sslscan: $version is on" has "^$version +enabled"; done
        expect "sslscan: no renegotiation" has "renegotiation not supported"
        expect "sslscan: compression is off" has "ompression"
        expect "sslscan: no heartbleed" has_not "[^t] vulnerable to heartbleed"
        expect "sslscan: ciphers were listed" has "^(Preferred|Accepted) +TLSv1\.3"
        expect "sslscan: AEAD with ECDHE alone" has_not "^(Preferred|Accepted) +TLSv1\.2 +[0-9]+ bits +(AES|DHE|ECDH-|.*CBC|.*-SHA$|.*SHA256 *$)[^ ]*$"
        expect "sslscan: nothing under 112 bits" has_not "^(Preferred|Accepted) +TLSv1\.[0-9] +([0-9]|[0-9][0-9]|10[0-9]|11[01]) bits"
        [ $failed = 0 ] || cat "$work/sslscan.txt"
}

install_missing
if ! start_server; then
        bad "the server did not start"
else
        ok "the server listens off loopback"
        if command -v sslscan >/dev/null; then scan_sslscan; else skip "sslscan is not here and cannot be installed"; fi
        if command -v testssl >/dev/null; then scan_testssl; else skip "testssl.sh is not here and cannot be installed"; fi
        # Whatever they sent, it serves.
        expect "it serves after the scans" curl -sS -o "$work/ping" --max-time 10 --cacert "$work/data/certs/ca.pem" "https://localhost:$port/ping"
        kill "$server"
        wait "$server"
        expect "it stops in order" test $? = 0
        server=
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]

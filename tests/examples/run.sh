#!/bin/bash
# The examples, built and run as their READMEs say, and what the README's two commands and first five minutes rest on.
#   NILO=path/to/nilo      another program than build/nilo
#   NILO_BUILD=directory   another build of libnilo than build
# The last line is `N passed, N failed, N skipped`.
set -u
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
nilo=$(realpath "${NILO:-build/nilo}")
build=$(realpath "${NILO_BUILD:-$(dirname "$nilo")}")
if [ ! -x "$nilo" ]; then
        echo "there is no program ${NILO:-build/nilo}: \`./test.sh unit\` builds it"
        echo "0 passed, 1 failed, 0 skipped"
        exit 1
fi
tmp=$(mktemp -d "${NILO_TEST_DIR:-/tmp}/nilo-examples-XXXXXX")
server=
passed=0 failed=0 skipped=0

clean() {
        [ -z "$server" ] || kill -9 "$server" 2>/dev/null
        rm -rf "$tmp"
}
trap clean EXIT
trap 'exit 1' INT TERM HUP

# A check that fails ends its test with the line where it stands.
check() { "$@" || { echo "line ${BASH_LINENO[0]}: $*" >&2; exit 1; }; }
same() { check [ "$1" = "$2" ] ; }

# run NAME: runs the function; exit code 77 means skipped, with the reason as its last line.
run() {
        local code
        ("$1") >"$tmp/log" 2>&1
        code=$?
        case $code in
        0) passed=$((passed + 1)); echo "ok $1" ;;
        77) skipped=$((skipped + 1)); echo "SKIP: $1: $(tail -n 1 "$tmp/log")" ;;
        *) failed=$((failed + 1)); echo "FAILED $1"; sed 's/^/    /' "$tmp/log" ;;
        esac
}

# Sets NILO_URL. The port is the kernel's choice.
start_server() {
        "$nilo" --data "$tmp/data" --port 0 --json >"$tmp/said" 2>"$tmp/server.log" &
        server=$!
        for _ in $(seq 100); do
                NILO_URL=$(sed -n 's/.*"url":"\([^"]*\)".*/\1/p' "$tmp/said")
                [ -z "$NILO_URL" ] || break
                kill -0 $server 2>/dev/null || break
                sleep 0.1
        done
        export NILO_URL
        [ -n "$NILO_URL" ] || { cat "$tmp/server.log"; return 1; }
}

stop_server() {
        kill -TERM "$server"
        wait "$server"
        local code=$?
        server=
        return $code
}

# ---- embed.c ----

expected_of_embed() { printf '0 OrderPlaced {"total":5}\n1 OrderPaid \n'; }

embed_is_short() { check [ "$(wc -l <examples/embed.c)" -le 30 ]; }

embed_runs_from_the_tree() {
        check ls "$build/src/libnilo.so"
        check cc -Wall -Wextra -Werror -Iinclude examples/embed.c -L"$build/src" -lnilo -Wl,-rpath,"$build/src" -o "$tmp/embed"
        same "$("$tmp/embed" "$tmp/embed-data")" "$(expected_of_embed)"
        same "$("$tmp/embed" "$tmp/embed-data" | wc -l)" 4 # what the first run wrote is there
        check "$nilo" verify -q "$tmp/embed-data"
        check [ "$("$tmp/embed" "$root/README.md" 2>"$tmp/err"; echo $?)" = 1 ]
        check grep -q README.md "$tmp/err"
}

embed_runs_with_an_installed_library() {
        local dest=$tmp/installed pc
        DESTDIR=$dest check meson install -C "$build" --no-rebuild --quiet
        pc=$(dirname "$(find "$dest" -name nilo.pc)")
        export PKG_CONFIG_PATH=$pc PKG_CONFIG_SYSROOT_DIR=$dest
        # shellcheck disable=SC2046 # a list of flags
        check cc -Wall -Wextra -Werror examples/embed.c $(pkg-config --cflags --libs nilo) -o "$tmp/embed-installed"
        same "$(LD_LIBRARY_PATH=$(dirname "$pc") "$tmp/embed-installed" "$tmp/installed-data")" "$(expected_of_embed)"
        same "$(pkg-config --modversion nilo)" "$("$nilo" version | grep -o '[0-9][0-9.]*' | head -n 1)"
}

libnilo_shows_its_own_names_only() {
        same "$(nm -D --defined-only "$build/src/libnilo.so" | awk '$2 != "A" { print $3 }' | grep -v '^nilo_')" ""
}

# ---- git-history ----

history() { python3 "$root/examples/git-history/git_history.py" "$@"; }
# The configuration of the machine must not decide, nor who owns the checkout.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_AUTHOR_NAME='Zoë de la Test' GIT_AUTHOR_EMAIL=zoe@example.org GIT_COMMITTER_NAME=zoe GIT_COMMITTER_EMAIL=zoe@example.org

need_git() {
        git -C "$root" rev-parse HEAD >/dev/null 2>&1 && return
        echo "this tree is no git checkout"
        exit 77
}

# A copy of this repository that may be changed.
copy_repository() {
        [ -d "$tmp/copy" ] || git clone -q "file://$root" "$tmp/copy"
}

# Counts of the server, of one type of event, against git's own.
compare_with_git() {
        local repository=$1 area
        same "$("$nilo" stream read '$all' --type-prefix CommitAuthored | wc -l)" "$(git -C "$repository" rev-list --count HEAD)"
        "$nilo" export | history report >"$tmp/report"
        git -C "$repository" shortlog -sn HEAD </dev/null | awk '{ $1 = $1; print }' | sort >"$tmp/of-git"
        sed -n '/by author/,/by area/p' "$tmp/report" | grep '^ ' | awk '{ $1 = $1; print }' | sort >"$tmp/of-nilo"
        check cmp "$tmp/of-git" "$tmp/of-nilo"
        for area in src/store src/os tests/rooms docs examples/git-history; do
                [ -d "$repository/$area" ] || continue
                # Files of deeper directories belong to the same area; those of docs/formats are another's.
                paths=$area
                [ $area != docs ] || paths=':(glob)docs/*'
                same "$("$nilo" stream read "area-$area" 2>/dev/null | wc -l)" \
                        "$(git -C "$repository" log --full-history --no-merges --format=%h HEAD -- "$paths" | wc -l)"
        done
}

history_is_imported_once_and_counts_as_git_does() {
        need_git
        check copy_repository
        check history write --repository "$tmp/copy" --output "$tmp/history.ndjson"
        check "$nilo" import -q "$tmp/history.ndjson"
        check compare_with_git "$tmp/copy"
        check "$nilo" import -q "$tmp/history.ndjson"
        check history write --repository "$tmp/copy" --output "$tmp/history.ndjson"
        check "$nilo" import -q "$tmp/history.ndjson"
        check history write --repository "$tmp/copy" >"$tmp/another.ndjson"
        check cmp "$tmp/history.ndjson" "$tmp/another.ndjson"
        check "$nilo" import -q "$tmp/another.ndjson" # the ids say that all of it is there
        check compare_with_git "$tmp/copy"
        "$nilo" stream read "$(head -n 1 "$tmp/another.ndjson" | sed 's/.*"stream": "\([^"]*\)".*/\1/')" --limit 1 |
                check grep -q "$(head -n 1 "$tmp/another.ndjson" | sed 's/.*"id": "\([^"]*\)".*/\1/')"
}

history_goes_on_with_new_commits_and_merges() {
        local follower new
        need_git
        check [ -d "$tmp/copy" ]
        cd "$tmp/copy" || exit 1
        "$nilo" stream tail '$all' --type-prefix CommitAuthored --from end --limit 3 >"$tmp/followed" &
        follower=$!
        check git checkout -q -b side
        check git commit -q --allow-empty -m 'nothing, on a side'
        check git checkout -q -
        mkdir -p 'src/new room'
        printf 'x\n' >'src/new room/tab	and "quote".c'
        check git add .
        check git commit -q -m $'carriage\rreturn "quoted" \x01 and ünïcode'
        check git merge -q --no-edit side
        check history write --output "$tmp/history.ndjson"
        check "$nilo" import -q "$tmp/history.ndjson"
        check compare_with_git .
        check timeout 20 tail --pid=$follower -f /dev/null
        new=$(git rev-list HEAD -3 | sort)
        same "$(sed 's/.*"commit": "\([^"]*\)".*/\1/' "$tmp/followed" | sort)" "$new"
        same "$("$nilo" stream read author-zoë-de-la-test | wc -l)" 3
        same "$("$nilo" stream read 'area-src/new room' | wc -l)" 1
}

history_that_was_cut_off_goes_on() {
        local size
        need_git
        check copy_repository
        check history write --repository "$tmp/copy" --output "$tmp/whole.ndjson"
        size=$(stat -c %s "$tmp/whole.ndjson")
        for cut in 0 1 $((size / 3)) $((size / 2)) $((size - 1)); do
                head -c $cut "$tmp/whole.ndjson" >"$tmp/cut.ndjson"
                check history write --repository "$tmp/copy" --output "$tmp/cut.ndjson"
                check cmp "$tmp/whole.ndjson" "$tmp/cut.ndjson"
        done
}

history_of_a_shallow_clone() {
        local before
        need_git
        check copy_repository
        check git clone -q --depth 3 "file://$tmp/copy" "$tmp/shallow"
        check history write --repository "$tmp/shallow" --output "$tmp/shallow.ndjson"
        same "$(grep -c '"type": "CommitAuthored"' "$tmp/shallow.ndjson")" "$(git -C "$tmp/shallow" rev-list --count HEAD)"
        before=$("$nilo" stream read '$all' --type-prefix CommitAuthored | wc -l)
        check "$nilo" import -q "$tmp/shallow.ndjson" # the full history has these commits already
        same "$("$nilo" stream read '$all' --type-prefix CommitAuthored | wc -l)" "$before"
}

# ---- the README's first five minutes ----

# The lines of README's blocks for the shell, without those that start the server or belong to the tests.
readme_commands() {
        awk '/^```sh/ { on = 1; next } /^```/ { on = 0 } on && !/^\.\// && NF' README.md
}

readme_commands_work() {
        local count=0
        mkdir -p "$tmp/bin"
        ln -sf "$nilo" "$tmp/bin/nilo"
        while IFS= read -r line; do
                line=${line//localhost:2113/${NILO_URL#http://}}
                out=$(PATH=$tmp/bin:$PATH timeout 20 bash -c "set -o pipefail; $line" 2>&1) || { echo "$line: $out"; exit 1; }
                case $out in *'"status":4'* | *'"status":5'* | "") echo "$line: $out"; exit 1 ;; esac
                count=$((count + 1))
        done < <(readme_commands)
        check [ $count -ge 7 ]
}

# ---- ./run.sh and tools/setup.sh, with everything that they call replaced ----

# A directory with run.sh, in which setup, meson and ninja write down that they were called.
fake_tree() {
        local tree=$tmp/fake
        rm -rf "$tree"
        mkdir -p "$tree/tools" "$tree/bin"
        cp run.sh "$tree/"
        printf '#!/bin/sh\necho setup "$@" >>%s/calls\n' "$tree" >"$tree/tools/setup.sh"
        printf '#!/bin/sh\necho meson "$@" >>%s/calls\nmkdir -p "$2"\n: >"$2/build.ninja"\n' "$tree" >"$tree/bin/meson"
        cat >"$tree/bin/ninja" <<END
#!/bin/sh
echo ninja "\$@" >>$tree/calls
[ ! -e $tree/broken ] || exit 1
printf '#!/bin/sh\necho "served \$*"\nexit 7\n' >$tree/build-release/nilo
chmod +x $tree/build-release/nilo
END
        chmod +x "$tree"/bin/* "$tree"/tools/*
}

run_sh_builds_each_time_and_passes_arguments_and_exit_code_on() {
        fake_tree
        same "$(PATH=$tmp/fake/bin:$PATH "$tmp/fake/run.sh" --port 0 'two words'; echo $?)" "$(printf 'served --port 0 two words\n7')"
        same "$(cut -d' ' -f1 "$tmp/fake/calls" | xargs)" "setup meson ninja"
        PATH=$tmp/fake/bin:$PATH "$tmp/fake/run.sh" >/dev/null
        same "$(cut -d' ' -f1 "$tmp/fake/calls" | xargs)" "setup meson ninja setup ninja" # ninja sees what has changed
        : >"$tmp/fake/broken"
        same "$(PATH=$tmp/fake/bin:$PATH "$tmp/fake/run.sh")" "" # never the old program for new sources
}

setup_needs_neither_rights_nor_network_when_all_is_there() {
        local bin=$tmp/no-rights
        mkdir -p "$bin"
        for name in apt-get sudo tee; do printf '#!/bin/sh\necho called >&2\nexit 99\n' >"$bin/$name"; done
        chmod +x "$bin"/*
        check env PATH="$bin:$PATH" tools/setup.sh
}

# setup ID CODENAME LIBRAFT: what setup.sh asks for as user ID on a machine without packages whose archive has LIBRAFT.
fake_setup() {
        local bin=$tmp/fake-setup
        rm -rf "$bin"
        mkdir -p "$bin"
        cat >"$bin/apt-get" <<END
#!/bin/sh
case "\$*" in
*indextargets*) echo "http://mirror.example/debian/ $2 $bin/debian.sources:1" ;;
*install*) echo "install \$*" | sed 's/ -[^ ]*//g' >>$bin/calls
        case "\$*" in *libraft-dev*) touch $bin/raft ;; esac ;;
*update*) echo update >>$bin/calls ;;
esac
END
        cat >"$bin/dpkg-query" <<END
#!/bin/sh
case "\$*" in
*libraft-dev) [ -e $bin/raft ] || exit 1 ;;
*) exit 1 ;;
esac
case "\$*" in *Status*) echo "ii " ;; *) echo "$3" ;; esac
END
        printf '#!/bin/sh\necho %s\n' "$1" >"$bin/id"
        printf '#!/bin/sh\necho sudo >>%s/calls\nexec "$@"\n' "$bin" >"$bin/sudo"
        printf '#!/bin/sh\necho "tee $*" >>%s/calls\ncat >%s/written\n' "$bin" "$bin" >"$bin/tee"
        printf '#!/bin/sh\ncase "$*" in *os-release) echo %s ;; *) exec /bin/sed "$@" ;; esac\n' "$2" >"$bin/sed"
        printf 'Types: deb\nSigned-By: /usr/share/keyrings/some.gpg\n' >"$bin/debian.sources"
        chmod +x "$bin"/*
        PATH=$bin:$PATH tools/setup.sh
}

setup_takes_backports_from_where_apt_gets_the_release() {
        check fake_setup 0 bookworm 0.22.1-1~bpo12+1
        check grep -q '^URIs: http://mirror.example/debian/$' "$tmp/fake-setup/written"
        check grep -q '^Suites: bookworm-backports$' "$tmp/fake-setup/written"
        check grep -q '^Signed-By: /usr/share/keyrings/some.gpg$' "$tmp/fake-setup/written"
        check grep -q 'install .*bookworm-backports libraft-dev' "$tmp/fake-setup/calls"
        check [ "$(grep -c sudo "$tmp/fake-setup/calls")" = 0 ]
}

setup_asks_sudo_when_it_is_not_root() {
        check fake_setup 1000 trixie 0.22.1-2
        check grep -q sudo "$tmp/fake-setup/calls"
        check [ ! -e "$tmp/fake-setup/written" ] # Debian 13 has the right one itself
}

setup_refuses_another_libraft() {
        check [ "$(fake_setup 0 trixie 0.15.0-1 2>"$tmp/err"; echo $?)" = 1 ]
        check grep -q '0.22.1' "$tmp/err"
}

# ---- all of them ----

run embed_is_short
run embed_runs_from_the_tree
run embed_runs_with_an_installed_library
run libnilo_shows_its_own_names_only
if start_server; then
        run readme_commands_work
        run history_is_imported_once_and_counts_as_git_does
        run history_goes_on_with_new_commits_and_merges
        run history_that_was_cut_off_goes_on
        run history_of_a_shallow_clone
        stop_server && { passed=$((passed + 1)); echo "ok the server stops in order"; } ||
                { failed=$((failed + 1)); echo "FAILED: the server's stop"; tail "$tmp/server.log"; }
else
        failed=$((failed + 1))
        echo "FAILED: no server"
fi
run run_sh_builds_each_time_and_passes_arguments_and_exit_code_on
run setup_needs_neither_rights_nor_network_when_all_is_there
run setup_takes_backports_from_where_apt_gets_the_release
run setup_asks_sudo_when_it_is_not_root
run setup_refuses_another_libraft

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]

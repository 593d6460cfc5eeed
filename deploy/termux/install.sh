#!/data/data/com.termux/files/usr/bin/sh
# Installs susurrus in Termux, joins a network and keeps the peer running.  Safe to run again: that upgrades.
# What each part is for, and what has been tried where: deploy/README.md, "Phones".
set -eu
set +x # a trace would show the join token

PACKAGES="python python-pip python-numpy python-cryptography python-msgpack termux-services termux-api"
SPACE_MB=300
TOKEN_START="susurrus-token-v1."
HERE=$(cd "$(dirname "$0")" && pwd)

usage() {
    cat <<'EOF'
usage: sh install.sh [--token-file FILE] [--data FILE --schema NAME] [--no-service]
       sh install.sh --uninstall [--purge]

  --token-file FILE   file that holds the join token, or a link susurrus:TOKEN; - for standard input.
                      Otherwise SUSURRUS_TOKEN or SUSURRUS_TOKEN_FILE, otherwise you are asked for it.
                      An installed peer needs none; given one, it renews its membership.
  --data FILE         this peer's records (CSV, NPZ or LIBSVM)
  --schema NAME       what tasks call such records (for example digits)
  --home DIR          the peer's home (default: $SUSURRUS_HOME or ~/.susurrus)
  --wheel FILE        install this wheel (default: the one beside this script, or the checkout around it)
  --no-service        do not start the peer by itself, neither now nor at boot
  --uninstall         remove what this script installed; keeps the home and Termux's own packages
  --purge             with --uninstall: remove the home too, and with it the peer's identity
  --help              this text
EOF
}

say() { printf '%s\n' "$*"; }

fail() { # fail CODE SENTENCE...: 1 something went wrong, 2 something given is wrong
    code=$1
    shift
    printf 'susurrus: %s\n' "$*" >&2
    exit "$code"
}

# --- what was asked for ---------------------------------------------------------------------------------------

data='' schema='' token_file='' wheel='' service=yes uninstall='' purge=''
home=${SUSURRUS_HOME:-${HOME:-}/.susurrus}

arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --token-file | --data | --schema | --home | --wheel)
                [ -n "${2:-}" ] || fail 2 "$1 needs a value; see --help."
                case $1 in
                    --token-file) token_file=$2 ;;
                    --data) data=$2 ;;
                    --schema) schema=$2 ;;
                    --home) home=$2 ;;
                    --wheel) wheel=$2 ;;
                esac
                shift 2
                ;;
            --no-service) service='' && shift ;;
            --uninstall) uninstall=yes && shift ;;
            --purge) purge=yes && shift ;;
            -h | --help) usage && exit 0 ;;
            *susurrus-token-* | susurrus:*)
                fail 2 "a token on the command line stays in the shell's history: leave it out, and type it when asked."
                ;;
            *) fail 2 "unknown option $1; see --help." ;;
        esac
    done
}

absolute() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$PWD" "$1" ;; esac }

check_request() {
    if [ -z "${PREFIX:-}" ] || [ -z "${HOME:-}" ] || ! command -v pkg >/dev/null 2>&1; then
        fail 2 "this is for Termux on Android; for servers and containers see deploy/README.md."
    fi
    home=$(absolute "$home")
    [ -z "$purge" ] || [ -n "$uninstall" ] || fail 2 "--purge goes with --uninstall."
    if [ -n "$data" ]; then
        data=$(absolute "$data")
        [ -r "$data" ] || fail 2 "--data: cannot read $data (for files outside Termux run termux-setup-storage first)."
        [ -n "$schema" ] || fail 2 "--data needs --schema NAME: what tasks call such records (for example digits)."
    fi
    [ -z "$schema" ] || [ -n "$data" ] || fail 2 "--schema says how to read --data FILE; give that too."
}

has_home() { [ -f "$home/config.toml" ] && [ -f "$home/key" ]; }

# --- the join token: only ever in this shell's memory and in pipes --------------------------------------------

token=''

ask_for_token() {
    saved=$(stty -g)
    trap 'stty "$saved"; exit 130' INT TERM
    stty -echo # before the prompt: what is pasted the moment it appears must not show either
    printf 'Join token (not shown while you paste it): ' >&2
    IFS= read -r token || true
    stty "$saved"
    trap - INT TERM
    printf '\n' >&2
}

read_token() {
    file=${token_file:-${SUSURRUS_TOKEN_FILE:-}}
    if [ -n "$token_file" ] || [ -z "${SUSURRUS_TOKEN:-}" ]; then
        if [ "$file" = - ]; then
            token=$(head -c 16384)
        elif [ -n "$file" ]; then
            [ -r "$file" ] || fail 2 "cannot read the token file $file."
            token=$(head -c 16384 "$file")
        elif ! has_home; then
            [ -t 0 ] || fail 2 "a new peer needs a join token: --token-file FILE, or run this in a terminal to be asked."
            ask_for_token
        fi
    else
        token=$SUSURRUS_TOKEN
    fi
    unset SUSURRUS_TOKEN SUSURRUS_TOKEN_FILE # children have no use for it
    [ -n "$token" ] || [ -z "$file" ] || fail 2 "the token file $file is empty."
    [ -n "$token" ] || has_home || fail 2 "a new peer needs a join token; ask whoever runs the network for one."
    [ -z "$token" ] || check_token
}

check_token() { # takes a link, a message around the token and line breaks off; the rest is checked by susurrus init
    token=$(printf '%s' "$token" | tr -d ' \t\r\n')
    case $token in
        *"$TOKEN_START"*) token=$TOKEN_START${token#*"$TOKEN_START"} ;;
        *) fail 2 "this is not a join token: one starts with $TOKEN_START; ask whoever runs the network for one." ;;
    esac
}

# --- steps ----------------------------------------------------------------------------------------------------

work='' new=''

clean_up() { # on every way out: what was not finished goes
    [ -z "$work" ] || rm -rf "$work"
    [ -z "$new" ] || rm -rf "$new"
}

check_space() {
    free=$(df -Pk "$PREFIX" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "${free:-0}" -ge "$SPACE_MB" ] ||
        fail 1 "only ${free:-0} MB are free and $SPACE_MB are needed: make room (pkg clean helps) and run this again."
}

run_logged() { # run_logged COMMAND...: quietly; what it said is shown if it fails
    "$@" >"$work/log" 2>&1 </dev/null && return 0
    tail -n 15 "$work/log" >&2
    return 1
}

said() { grep -qiE "$1" "$work/log"; }

install_packages() {
    say "installing Termux's packages (minutes, the first time): $PACKAGES"
    # shellcheck disable=SC2086  # one word for each package
    run_logged pkg install -y $PACKAGES && return 0
    if said 'no space left|enough free space'; then
        fail 1 "pkg ran out of space: make room and run this again."
    elif said 'unable to locate|target not found|no installation candidate'; then
        fail 1 "a package is missing from Termux's mirror: run pkg update (or termux-change-repo), then this again."
    fi
    fail 1 "pkg could not install Termux's packages: check the network, run pkg upgrade, then this again."
}

check_packages() { # Termux's own builds, before anything is put on top of them
    "$python" - <<'EOF' || fail 1 "Termux's Python packages do not fit: run pkg upgrade, then this again."
import sys
from importlib.metadata import PackageNotFoundError, version

bad = [] if sys.version_info >= (3, 11) else [f"python is {sys.version.split()[0]}, 3.11 or newer is needed"]
for name, least in {"numpy": (1, 26), "cryptography": (47,), "msgpack": (1,), "pip": (23,)}.items():
    try:
        found = version(name)
    except PackageNotFoundError:
        bad.append(f"{name} is missing")
        continue
    if tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < least:
        bad.append(f"{name} is {found}, {'.'.join(map(str, least))} or newer is needed")
print("\n".join(bad), end="\n" if bad else "", file=sys.stderr)
sys.exit(bool(bad))
EOF
}

find_source() { # sets $wheel to a wheel, or $checkout to the checkout to build one from
    checkout=''
    if [ -n "$wheel" ]; then
        [ -r "$wheel" ] || fail 2 "--wheel: cannot read $wheel."
        wheel=$(absolute "$wheel")
        return
    fi
    for candidate in "$HERE"/susurrus-*.whl; do
        [ -e "$candidate" ] || continue
        [ -z "$wheel" ] || fail 2 "there are several wheels beside this script; say which with --wheel FILE."
        wheel=$candidate
    done
    [ -z "$wheel" ] || return 0
    root=$HERE/../..
    grep -qs '^name = "susurrus"' "$root/pyproject.toml" ||
        fail 2 "there is neither a wheel beside this script nor a checkout around it; name a wheel with --wheel FILE."
    checkout=$root
}

why_pip_failed() {
    if said 'no space left'; then
        fail 1 "there is no space left: make room and run this again."
    elif said 'name resolution|NewConnectionError|connection broken|no address associated|timed out|Network is unreachable'; then
        fail 1 "the Python package index cannot be reached: check the network and run this again."
    elif said 'no matching distribution|could not find a version|not a supported wheel'; then
        fail 1 "there is no wheel of one package for this platform (named above), and nothing is compiled here;" \
            "run pkg upgrade, then this again."
    fi
    fail 1 "pip could not install susurrus; what it said is above."
}

build_environment() { # a new one each time, beside the one in use, which stays until this one has proved itself
    mkdir -p "$PREFIX/opt/susurrus"
    new=$(mktemp -d "$PREFIX/opt/susurrus/env.XXXXXX")
    # Termux's pip is seen through --system-site-packages, so the environment needs none of its own.
    run_logged "$python" -m venv --system-site-packages --without-pip "$new" ||
        fail 1 "python could not make a virtual environment; what it said is above."
    pip="$new/bin/python -m pip --disable-pip-version-check --no-input --no-cache-dir"
    if [ -n "$checkout" ]; then
        say "building susurrus from the checkout"
        mkdir "$work/source" # building leaves files beside the sources
        cp -R "$checkout/pyproject.toml" "$checkout/README.md" "$checkout/LICENSE" "$checkout/peer" \
            "$checkout/protocol" "$work/source"
        # shellcheck disable=SC2086  # a command and its options
        run_logged $pip wheel --no-deps --only-binary=:all: -w "$work" "$work/source" || why_pip_failed
        for wheel in "$work"/susurrus-*.whl; do :; done
    fi
    say "installing susurrus and what it needs, wheels only"
    # shellcheck disable=SC2086
    run_logged $pip install --only-binary=:all: "$wheel" || why_pip_failed
}

smoke_test() {
    "$new/bin/python" - <<'EOF' || fail 1 "this phone's Python packages do not work together (see above): run pkg upgrade, then this again."
import sqlite3, ssl, sys

import aiohttp, msgpack, numpy, prometheus_client, rich, typer, yarl
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import peer, protocol

def check(holds, what):
    if not holds:
        sys.exit(f"{what} gives a wrong result")

key = x25519.X25519PrivateKey.generate()
suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
check(suite.decrypt(suite.encrypt(b"a", key.public_key(), info=b"b"), key, info=b"b") == b"a", "HPKE")
other = x25519.X25519PrivateKey.generate()
check(key.exchange(other.public_key()) == other.exchange(key.public_key()), "X25519")
signer = ed25519.Ed25519PrivateKey.generate()
signer.public_key().verify(signer.sign(b"a"), b"a")
stream = Cipher(algorithms.AES256(bytes(32)), modes.CTR(bytes(16))).encryptor().update(bytes(16))
check(stream.hex() == "dc95c078a2408989ad48a21492842087", "AES-CTR")
ring = numpy.array([2**32 - 1, 5], dtype=numpy.uint32)
check((ring + ring).tolist() == [2**32 - 2, 10], "numpy")
check(msgpack.unpackb(msgpack.packb({"a": [1, b"\0"]})) == {"a": [1, b"\0"]}, "msgpack")
check(peer.__file__.startswith(sys.prefix), "the installation")
EOF
    version=$("$new/bin/susurrus" --version) || fail 1 "the susurrus command does not start; what it said is above."
}

switch_over() {
    ln -s "$new/bin/susurrus" "$work/susurrus"
    mv -f "$work/susurrus" "$PREFIX/bin/susurrus"
    current=$new new=''
}

make_home() {
    if has_home; then
        [ -z "$data" ] || say "kept the home $home as it is; to change its data, edit $home/config.toml"
        [ -n "$token" ] || return 0
        set -- --renew
    else
        set -- --preset wan
        [ -z "$data" ] || set -- "$@" --data "$data" --schema "$schema"
    fi
    # printf is part of the shell: the token is in no process's arguments.
    printf '%s' "$token" | "$PREFIX/bin/susurrus" init --home "$home" --token-file - "$@" ||
        fail 2 "$version is installed, but the token above was not accepted: run this again with another."
}

# --- the service ----------------------------------------------------------------------------------------------

quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

write_script() { # write_script FILE: standard input becomes an executable script, whole or not at all
    mkdir -p "$(dirname "$1")"
    { printf '#!%s/bin/sh\n' "$PREFIX" && cat; } >"$1.new"
    chmod 700 "$1.new"
    mv -f "$1.new" "$1"
}

make_service() {
    sv_dir=$PREFIX/var/service/susurrus log_dir=$PREFIX/var/log/sv/susurrus boot=$HOME/.termux/boot/susurrus
    upgrade=''
    [ ! -e "$sv_dir/run" ] || upgrade=yes
    mkdir -p "$log_dir"
    # svlogd: files of 100 kB, five old ones.
    printf 's100000\nn5\n' >"$log_dir/config"
    write_script "$sv_dir/log/run" <<EOF
exec svlogd $(quoted "$log_dir")
EOF
    write_script "$sv_dir/finish" <<'EOF'
# $1 is how susurrus ended.  2 and 3: something that a person has to change, so starting again would not help; fix it
# and say: sv up susurrus
case $1 in
    0) ;;
    2 | 3) exec sv down . ;;
    *) sleep 10 ;;
esac
EOF
    # Last: a running runsvdir starts whatever has a file "run".  The daemon takes the wake lock itself, while a round
    # runs and no longer.
    write_script "$sv_dir/run" <<EOF
exec 2>&1
exec $(quoted "$PREFIX/bin/susurrus") run --home $(quoted "$home")
EOF
    write_script "$boot" <<EOF
# Termux:Boot runs this when the phone has started.
export PREFIX=$(quoted "$PREFIX")
. $(quoted "$PREFIX/etc/profile.d/start-services.sh")
EOF
}

start_service() {
    export SVDIR="$PREFIX/var/service" LOGDIR="$PREFIX/var/log"
    service-daemon start >/dev/null 2>&1 </dev/null || true # fails when it runs already
    wait_until 10 test -e "$SVDIR/susurrus/supervise/ok" || true # runsvdir looks for new services every five seconds
    if [ -n "$upgrade" ]; then
        sv -w 15 restart susurrus >/dev/null 2>&1 </dev/null || true
    fi
    sv-enable susurrus >/dev/null 2>&1 </dev/null || true
    # Whether it worked is asked of the peer itself.
    wait_until 20 "$PREFIX/bin/susurrus" status --home "$home" ||
        fail 1 "$version is installed, but the peer does not run; $log_dir/current says why. Then: sv up susurrus"
    say "the peer runs; it starts again with Termux, and with the phone if the app Termux:Boot is installed"
    say "its log: $log_dir/current"
}

wait_until() { # wait_until SECONDS COMMAND...: until it succeeds
    tries=$1
    shift
    until "$@" >/dev/null 2>&1 </dev/null; do
        [ "$tries" -gt 0 ] || return 1
        tries=$((tries - 1))
        sleep 1
    done
}

remove_old() {
    for old in "$PREFIX"/opt/susurrus/env.*; do
        [ "$old" = "$current" ] || rm -rf "$old"
    done
}

uninstall() {
    if [ -n "$purge" ] && [ -e "$home" ]; then
        has_home || fail 2 "$home is not a peer's home; nothing was removed."
    fi
    export SVDIR="$PREFIX/var/service"
    sv stop susurrus >/dev/null 2>&1 || true # there may be no service, or no daemon
    rm -rf "$PREFIX/var/service/susurrus" "$PREFIX/var/log/sv/susurrus" "$PREFIX/opt/susurrus"
    rm -f "$PREFIX/bin/susurrus" "$HOME/.termux/boot/susurrus"
    if [ -n "$purge" ]; then
        rm -rf "$home"
        say "removed susurrus and its home $home"
    else
        say "removed susurrus; the peer's home $home is kept (--uninstall --purge removes it)"
    fi
}

main() {
    arguments "$@"
    check_request
    if [ -n "$uninstall" ]; then
        uninstall
        return
    fi
    find_source
    read_token
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    work=$(mktemp -d "${TMPDIR:-$PREFIX/tmp}/susurrus.XXXXXX") || fail 1 "cannot write to ${TMPDIR:-$PREFIX/tmp}."
    check_space
    install_packages
    python=$PREFIX/bin/python
    check_packages
    build_environment
    smoke_test
    switch_over
    make_home
    if [ -n "$service" ]; then
        make_service
        start_service
    else
        say "start the peer with: susurrus run --home $home"
    fi
    remove_old
    say "$version is installed"
}

main "$@"

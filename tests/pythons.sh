#!/usr/bin/env bash
# The suite on another Python: tests/pythons.sh VERSION|newest [pytest arguments]; with `-` as first argument, any command.
#
# The interpreter is one of this machine (on PATH, or pyenv's), else one of Debian's unstable suite, which debootstrap puts
# into a folder. That folder and the virtual environments are kept in $DISPYCOS_PYTHONS (default: ~/.cache/dispycos-pythons).
# The tests run in a copy of the checkout. Where the interpreter cannot be had the reason is printed, and the exit code is 77.
set -euo pipefail

versions=(3.15 3.14 3.13 3.12 3.11) # the newest first
in_debian=(3.15 3.14)
checkout=$(cd "$(dirname "$0")/.." && pwd)
kept=${DISPYCOS_PYTHONS:-${XDG_CACHE_HOME:-$HOME/.cache}/dispycos-pythons}
root=$kept/debian

skip() {
    echo "SKIP Python $1: $2"
    exit 77
}

# Prints an interpreter of this machine.
find_here() {
    local found
    for found in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if [ -n "$found" ] && [ -x "$found" ] && "$found" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            echo "$found"
            return
        fi
    done
    return 1
}

# Prints why Debian's cannot be had; nothing if it can.
why_no_debian() {
    [[ " ${in_debian[*]} " == *" $1 "* ]] || { echo "no such interpreter here"; return; }
    [ "$(id -u)" = 0 ] || { echo "a folder with Debian in it needs root"; return; }
    command -v debootstrap >/dev/null || { echo "a folder with Debian in it needs the command debootstrap"; return; }
    unshare --mount --pid --net --fork true 2>/dev/null || { echo "the kernel refuses namespaces"; return; }
    [ -n "$(mirror)" ] || echo "apt's configuration names no Debian mirror"
}

mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m1 '/debian/\?$' || true; }

make_debian() {
    [ -e "$root/made" ] && return
    rm -rf "$root"
    mkdir -p "$kept"
    local packages=iproute2,ca-certificates version
    for version in "${in_debian[@]}"; do packages+=",python$version,python$version-venv"; done
    if ! debootstrap --variant=minbase --include="$packages" unstable "$root" "$(mirror)" >"$kept/debootstrap.log" 2>&1; then
        tail -n 3 "$kept/debootstrap.log"
        return 1
    fi
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" # where a proxy has a certificate of its own
    touch "$root/made"
}

# A command in that folder, with its own /proc, /tmp and /run; $1: `--net` for a network of its own, or nothing.
in_debian() {
    local net=$1
    shift
    # shellcheck disable=SC2016
    unshare --mount --pid $net --fork --kill-child bash -euc '
        root=$1; shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"  # with its terminals
        mount -t tmpfs tmpfs "$root/dev/shm"
        mount -t tmpfs tmpfs "$root/tmp"
        mount -t tmpfs tmpfs "$root/run"
        [ -z "$0" ] || ip link set lo up
        exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin PIP_DISABLE_PIP_VERSION_CHECK=1 "$@"
    ' "$net" "$root" "$@"
}

copy_checkout() {
    rm -rf "$1"
    mkdir -p "$1"
    tar -C "$checkout" -c --exclude=./.git --exclude=./.venv --exclude=./.tox --exclude=./build --exclude='*.egg-info' --exclude=__pycache__ --exclude=.mypy_cache --exclude=.ruff_cache . |
        tar -C "$1" -x
}

# Runs where the interpreter is: PYTHON VENV SOURCE ARGUMENTS
run_there='
    set -euo pipefail
    [ -x "$2/bin/python" ] || "$1" -m venv "$2"
    "$2/bin/python" -m pip install -q "$3[test]"
'
test_there='
    set -euo pipefail
    venv=$1; cd "$2"; shift 2
    if [ "${1:-}" = - ]; then shift; else set -- python -m pytest "$@"; fi
    export PATH=$venv/bin:$PATH
    python -VV
    exec "$@"
'

version=${1:?VERSION or newest}
shift
[[ " newest ${versions[*]} " == *" $version "* ]] || { echo "dispycos is not for Python $version: ${versions[*]}" && exit 2; }
if [ "$version" = newest ]; then
    for version in "${versions[@]}"; do
        if find_here "$version" >/dev/null || [ -z "$(why_no_debian "$version")" ]; then break; fi
    done
fi

if python=$(find_here "$version"); then
    source=$kept/source-$version
    copy_checkout "$source"
    bash -c "$run_there" sh "$python" "$kept/venv-$version" "$source"
    exec bash -c "$test_there" sh "$kept/venv-$version" "$source" "$@"
fi
reason=$(why_no_debian "$version")
[ -z "$reason" ] || skip "$version" "$reason"
make_debian || skip "$version" "debootstrap failed, see above"
copy_checkout "$root/source-$version"
in_debian "" bash -c "$run_there" sh "python$version" "/root/venv-$version" "/source-$version"
in_debian --net bash -c "$test_there" sh "/root/venv-$version" "/source-$version" "$@"

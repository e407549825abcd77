#!/usr/bin/env bash
# Puts the clients of tests/clients into a cache outside the repository, once: kubectl of three ages and, where the machine's
# own Go is too old, Go (both from Debian's suites), the Python client and the modules of the Go programs.
# `tests/clients/setup.sh upstream` also builds upstream's kube-proxy, kube-scheduler and kube-controller-manager, and
# `tests/clients/setup.sh peers` the kube-apiserver and etcd that `make bench` measures svcd beside: many minutes each.
# What cannot be had is said here; its tests then are counted as ignored.
set -uo pipefail
cd "$(dirname "$0")"
cache=${SVCD_TEST_CACHE:-/var/cache/svcd-tests}
# shellcheck source=tests/debian.sh
. ../debian.sh

if ! mkdir -p "$cache" 2>/dev/null || [ ! -w "$cache" ]; then
    as_root install -d -o "$(id -u)" -g "$(id -g)" "$cache"
fi

# The minor version of the kubectl at a path, empty where there is none.
minor() { "$1" version --client 2>/dev/null | grep -oE 'v1\.[0-9]+' | head -1 | cut -d. -f2; }

kubectl() { # minor suite package
    local home=$cache/kubectl/1.$1 work
    [ "$(minor "$home/kubectl")" = "$1" ] && return
    echo "installing: kubectl 1.$1"
    work=$cache/unpacked
    mkdir -p "$home"
    unpack "$2" "$work" "$3" && install -m 755 "$work/usr/bin/kubectl" "$home/kubectl"
    rm -rf "$work"
    [ "$(minor "$home/kubectl")" = "$1" ] || { rm -rf "$home"; echo "kubectl 1.$1 could not be had" >&2; }
}
kubectl 20 bookworm kubernetes-client
kubectl 32 trixie kubectl
kubectl 36 forky kubectl

# As tests/clients/programs.rs: the machine's Go if it is new enough, else the one in the cache.
go_minor() { "$1" version 2>/dev/null | grep -oE 'go1\.[0-9]+' | cut -d. -f2; }
needed=26
go=go
if [ "$(go_minor go || echo 0)" -lt $needed ] 2>/dev/null || ! command -v go >/dev/null; then
    go=$cache/go/bin/go
    if [ ! -x "$go" ]; then
        echo "installing: Go"
        unpack forky "$cache/unpacked" golang-1.27-go golang-1.27-src &&
            rm -rf "$cache/go" && cp -rL "$cache/unpacked/usr/lib/go-1.27" "$cache/go"
        rm -rf "$cache/unpacked"
        [ "$(go_minor "$go")" ] || { rm -rf "$cache/go"; echo "Go could not be had" >&2; }
    fi
fi
export GOTOOLCHAIN=local
if [ "$(go_minor "$go")" ]; then
    # Downloads, and compiles what never changes, so that the tests need not.
    (cd go && "$go" test -c -o /dev/null) || echo "the modules of client-go could not be had" >&2
fi

python=$cache/python
if ! cmp -s python/requirements.txt "$python/requirements.txt"; then
    echo "installing: the Python client"
    python3 -c 'import ensurepip' 2>/dev/null || as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    rm -rf "$python"
    if python3 -m venv "$python" && "$python/bin/pip" install -q -r python/requirements.txt; then
        cp python/requirements.txt "$python/"
    else
        rm -rf "$python"
        echo "the Python client could not be had" >&2
    fi
fi

build() { # program…
    echo "building upstream's $*: the first time takes many minutes"
    mkdir -p "$cache/upstream"
    local program
    for program in "$@"; do
        case $program in
        etcd) (cd upstream && "$go" build -trimpath -ldflags '-s -w' -o "$cache/upstream/etcd" go.etcd.io/etcd/server/v3) ;;
        absent) (cd upstream && "$go" build -o "$cache/upstream/" ./absent) ;;
        *) (cd upstream && "$go" build -trimpath -ldflags '-s -w' -o "$cache/upstream/" "k8s.io/kubernetes/cmd/$program") ;;
        esac || return
    done
}
case ${1:-} in
upstream) build kube-controller-manager kube-proxy kube-scheduler absent || exit ;;
peers) build kube-apiserver etcd || exit ;;
esac
exit 0

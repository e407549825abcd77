#!/usr/bin/env bash
# Installs what building, the lab and the tests need and this machine lacks, with apt-get (through sudo when not root).
# Prints nothing when nothing is missing. `tests/setup.sh lint` adds what the lints need, `tests/setup.sh clients` the clients
# that the tests of the API run, `tests/setup.sh upstream` upstream's own control plane besides, `tests/setup.sh vm` what the
# virtual machines need.
set -euo pipefail

# shellcheck source=tests/debian.sh
. "$(dirname "$0")/debian.sh"

# install PAIRS [OPTION…]: a pair is a program, and the Debian or Ubuntu package that has it.
install() {
    local missing=() pairs=$1 pair
    shift
    for pair in $pairs; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        echo "installing: ${missing[*]}"
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" "${missing[@]}" >/dev/null
    fi
}
install "cc:gcc make:make curl:curl ip:iproute2 iptables:iptables nft:nftables dig:dnsutils nsenter:util-linux
    conntrack:conntrack nc:netcat-openbsd jq:jq"
case "${1:-}" in
lint)
    install "ansible-playbook:ansible-core ansible-lint:ansible-lint" --no-install-recommends
    # Vagrant with a provider, whose settings can then be checked too. Some releases no longer have it; the lints then leave the
    # Vagrantfile out.
    if apt-cache show vagrant-libvirt >/dev/null 2>&1; then install vagrant:vagrant-libvirt --no-install-recommends; fi
    ;;
vm)
    # With what it recommends: the keys of Debian's archive.
    install mmdebstrap:mmdebstrap
    install "ansible-playbook:ansible-core ssh:openssh-client mke2fs:e2fsprogs qemu-img:qemu-utils
        qemu-system-x86_64:qemu-system-x86 systemd-nspawn:systemd-container" --no-install-recommends
    ;;
esac

# Rust: the version in rust-toolchain.toml, through rustup.
if ! command -v cargo >/dev/null; then
    if apt-cache show rustup >/dev/null 2>&1; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustup >/dev/null
    else
        echo "Rust is missing, and this release has no rustup package: install it from https://rustup.rs" >&2
        exit 1
    fi
fi

# kubectl: this release's own package, or Debian stable's where it has none (Debian 12 only has 1.20).
kubectl_from_stable() {
    local work code=0
    work=$(mktemp -d)
    { unpack trixie "$work" kubectl && as_root install -m 755 -t /usr/local/bin "$work/usr/bin/kubectl"; } || code=$?
    rm -rf "$work"
    return $code
}
if ! command -v kubectl >/dev/null; then
    echo "installing: kubectl"
    if apt-cache show kubectl >/dev/null 2>&1; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq kubectl >/dev/null
    else
        kubectl_from_stable || echo "kubectl could not be installed; get it from https://kubernetes.io/docs/tasks/tools" >&2
    fi
fi

# The clients of tests/clients, in a cache outside the repository.
case "${1:-}" in
clients | upstream) "$(dirname "$0")/clients/setup.sh" "$@" ;;
esac

# A debug build is enough for a tool that only reads manifests, and is there in a quarter of the time.
if [ "${1:-}" = lint ] && ! cargo deny --version >/dev/null 2>&1; then
    echo "installing: cargo-deny"
    cargo install --quiet --locked --debug cargo-deny@0.20.2
fi

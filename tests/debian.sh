# What the scripts here ask of Debian's packages. To be sourced.
# shellcheck shell=bash

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

# The mirror of Debian that this machine uses.
debian_mirror() { apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 'debian/$'; }

# unpack SUITE DIRECTORY PACKAGE…: packages of another suite, without installing them.
unpack() {
    local suite=$1 into=$2 work mirror options code
    shift 2
    mirror=$(debian_mirror) || return 1
    work=$(mktemp -d)
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$into"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/list"
    options=(-o "Dir::Etc::sourcelist=$work/list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists"
        -o Dir::State::status=/dev/null -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
    (
        cd "$work/archives" || exit
        apt-get "${options[@]}" update -qq && apt-get "${options[@]}" download -qq "$@" || exit
        for package in ./*.deb; do dpkg-deb -x "$package" "$into" || exit; done
    ) && code=0 || code=$?
    rm -rf "$work"
    return $code
}

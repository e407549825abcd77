# What this machine is and has of svcd, as one line of JSON. Changes nothing.
PATH=$PATH:/usr/sbin:/sbin
has() { command -v "$1" >/dev/null 2>&1; }
yes_no() { if "$@" >/dev/null 2>&1; then echo true; else echo false; fi; }
. /etc/os-release

missing=
for program in iptables python3; do
    has "$program" || missing="$missing${missing:+,}\"$program\""
done

firewall=none
if has ufw && ufw status | grep -q '^Status: active'; then firewall=ufw; fi
if has firewall-cmd && firewall-cmd --state >/dev/null 2>&1; then firewall=firewalld; fi

# A service whose files have changed since it started runs something else than what is installed.
unit=svcd-$1
installed=$(yes_no test -f "/etc/systemd/system/$unit.service")
active=$(yes_no systemctl -q is-active "$unit")
stale=false
if $active; then
    since=$(date -d "$(systemctl show -P ExecMainStartTimestamp "$unit")" +%s)
    [ -z "$(find /usr/local/bin/svcd "/etc/systemd/system/$unit.service" "/etc/default/$unit" -newerct "@$since" 2>/dev/null)" ] || stale=true
fi
other=server; [ "$1" != server ] || other=agent

printf '{"root":%s,"os":"%s","os_version":"%s","os_name":"%s","arch":"%s","systemd":%s,"missing":[%s],"firewall":"%s",' \
    "$(yes_no test "$(id -u)" -eq 0)" "$ID" "${VERSION_ID:-0}" "$PRETTY_NAME" "$(uname -m)" "$(yes_no test -d /run/systemd/system)" \
    "$missing" "$firewall"
printf '"installed":%s,"active":%s,"stale":%s,"joined":%s,"other_role":%s}\n' "$installed" "$active" "$stale" \
    "$(yes_no test -f "$2/agent/credentials.json")" "$(yes_no test -f "/etc/systemd/system/svcd-$other.service")"

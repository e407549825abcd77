"""All of a machine that svcd might change, as lines that can be compared."""

# Neighbours, counters and what a machine does for itself are left out: they change anyway. So are iptables's own chains as
# long as they let everything through: it makes them when it is only asked to list. And so is what an interface took over from
# the defaults when it appeared: after a reboot, those are the firewall's. The parameters of connection tracking are there
# once its module is: it is loaded first, so that they are compared too.
COMMANDS = """
modprobe nf_conntrack 2>/dev/null
ip -o link | sed 's/^[0-9]*: //; s/@if[0-9]*:/:/; s/ mtu .*//; s/^/link /'
ip -o address | awk '!/temporary/ {print "address", $2, $4}'
ip route show table all | sed 's/ metric .*//; s/^/route /' | grep -v 'proto ra\\|^route ff\\|expires'
ip rule | sed 's/^/rule /'
nft list tables | grep -vE '^table ip6? (filter|nat|mangle|raw|security)$' | sed 's/^/nft /'
for family in iptables ip6tables; do
    $family-save | sed 's/ \[.*//' | grep -E '^-A|^:' | grep -v '^:[A-Z]* ACCEPT$' | sed "s/^/$family /"
done
sysctl -a 2>/dev/null | grep -E '^net\\.(ipv4|ipv6|bridge|netfilter)\\.' |
    grep -vE 'conf\\.(eth|host)[0-9]\\.accept_redirects' |
    grep -vE 'nf_conntrack_(count|buckets|expect)|\\.tcp_fastopen_key|\\.stable_secret|\\.mtu|flush|udp_mem|tcp_mem|_max_' |
    sed 's/^/sysctl /'
sed 's/^/hosts /' /etc/hosts
findmnt -rno TARGET | grep -v '^/run/user' | sed 's/^/mount /'
find /etc /usr/local /var/lib /opt /root /run/netns -xdev 2>/dev/null |
    grep -vE '^/var/lib/(systemd|dpkg|apt|sudo)|^/etc/\\.pwd|^/etc/(resolv|machine-id)' | sed 's/^/file /'
ps -eo comm= | grep -E 'svcd|echo' | sed 's/^/process /'
systemctl list-unit-files 'svcd*' --no-legend | sed 's/^/unit /'
true
"""


def footprint(machine):
    """A set of lines."""
    return {line.strip() for line in machine.run(COMMANDS).splitlines() if line.strip()}

//! Who listens where: the kernel's tables of sockets, and the processes that hold them.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::read;
use crate::{Listener, Protocol};

const TABLES: [(&str, Protocol); 4] = [
    ("/proc/net/tcp", Protocol::Tcp),
    ("/proc/net/tcp6", Protocol::Tcp),
    ("/proc/net/udp", Protocol::Udp),
    ("/proc/net/udp6", Protocol::Udp),
];

pub(super) fn listeners() -> Vec<Listener> {
    let mut found = Vec::new();
    for (table, protocol) in TABLES {
        found.extend(
            parse(&read(table), protocol).into_iter().map(|(address, inode)| (protocol, address, inode)),
        );
    }
    let holders = holders();
    let listener =
        |(protocol, address, inode)| Listener { protocol, address, program: holders.get(&inode).cloned() };
    found.into_iter().map(listener).collect()
}

/// Addresses that are listened at, with the inodes of the sockets.
fn parse(table: &str, protocol: Protocol) -> Vec<(SocketAddr, u64)> {
    // What listens: of TCP by its state, of UDP what is not connected.
    let listening = if protocol == Protocol::Tcp { "0A" } else { "07" };
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let free = words.get(2)?.ends_with(":0000");
        if *words.get(3)? != listening || !free {
            return None;
        }
        Some((address(words[1])?, words.get(9)?.parse().ok()?))
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// `0100007F:0035`: 32-bit words in the machine's order of bytes, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(host.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Program names by the inodes of their sockets; of other users' programs only root learns them.
fn holders() -> HashMap<u64, String> {
    let mut holders = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path();
        let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
        for file in fs::read_dir(path.join("fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(file.path()).unwrap_or_default();
            let inode =
                target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                holders.insert(inode, name.trim().to_owned());
            }
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 18436 1 0 100 0 0 10 0\n   \
            1: 0100007F:A1B2 0100007F:0016 01 00000000:00000000 00:00000000 00000000     0        0 20000 1 0 20 4 30 10 -1\n";
        assert_eq!(parse(table, Protocol::Tcp), [("127.0.0.53:53".parse().unwrap(), 18_436)]);
        let any = "00000000000000000000000000000000:192B";
        assert_eq!(address(any), Some("[::]:6443".parse().unwrap()));
        let local = "00000000000000000000000001000000:192B";
        assert_eq!(address(local), Some("[::1]:6443".parse().unwrap()));
        assert_eq!((address("zz:1"), address("")), (None, None));
    }

    #[test]
    fn a_listener_is_found_with_its_program() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let found = listeners().into_iter().find(|listener| listener.address == address).unwrap();
        assert!(found.protocol == Protocol::Tcp && found.program.is_some(), "{found:?}");
    }
}

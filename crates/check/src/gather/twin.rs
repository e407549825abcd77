//! Is another machine at this machine's address? Asked on the link itself, as RFC 5227 has it: a question for the address that
//! comes from nobody, which only somebody else can answer. Bounded to less than a second; without the right to ask, nothing
//! is found.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::{LinkAddr, bind};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Twin;

/// ARP's number among the protocols of Ethernet.
const ETHER_ARP: u16 = 0x0806;
const QUESTIONS: u32 = 3;
/// How long to listen after each.
const PATIENCE: Duration = Duration::from_millis(250);
/// Ethernet's head and ARP's message for IPv4.
const FRAME: usize = 14 + 28;

type Mac = [u8; 6];

/// Who else has this address, on the link on which this machine has it. Blocks.
pub(super) fn of(address: Ipv4Addr) -> Option<Twin> {
    let all: Vec<InterfaceAddress> = getifaddrs().ok()?.collect();
    let ours = |found: &&InterfaceAddress| {
        found.address.is_some_and(|a| a.as_sockaddr_in().is_some_and(|a| a.ip() == address))
    };
    let interface = &all.iter().find(ours)?.interface_name;
    let links: Vec<(&str, LinkAddr)> = all
        .iter()
        .filter_map(|found| Some((found.interface_name.as_str(), *found.address?.as_link_addr()?)))
        .collect();
    let (_, link) = links.iter().find(|(name, _)| name == interface)?;
    let mac = link.addr().filter(|mac| *mac != Mac::default())?;
    // A machine with two links on one network answers at both for all that it has.
    let own: BTreeSet<Mac> = links.iter().filter_map(|(_, link)| link.addr()).collect();
    let other = ask(link, mac, address, &own).ok()??;
    Some(Twin { address, interface: interface.clone(), hardware: text(other) })
}

fn ask(link: &LinkAddr, mac: Mac, address: Ipv4Addr, own: &BTreeSet<Mac>) -> io::Result<Option<Mac>> {
    let protocol = Protocol::from(i32::from(ETHER_ARP.to_be()));
    let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    bind(socket.as_raw_fd(), link)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    for _ in 0..QUESTIONS {
        socket.write_all(&question(mac, address))?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let mut frame = [0; 128];
            match socket.read(&mut frame) {
                Ok(length) => {
                    let teller = teller(&frame[..length], address).filter(|teller| !own.contains(teller));
                    if teller.is_some() {
                        return Ok(teller);
                    }
                }
                Err(error) if is_nothing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(None)
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// To all on the link: who has this address? From nobody, so that nobody notes a wrong answer.
fn question(mac: Mac, address: Ipv4Addr) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHER_ARP.to_be_bytes());
    // Ethernet and IPv4, their lengths, and "request".
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// Who says of itself that it has this address, in an answer or in a question of its own.
fn teller(frame: &[u8], address: Ipv4Addr) -> Option<Mac> {
    let is_arp = frame.get(12..20)? == [8, 6, 0, 1, 8, 0, 6, 4];
    let says = frame.get(28..32)? == address.octets();
    (is_arp && says).then(|| frame[22..28].try_into().ok())?
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use svcd_testkit::{End, Netns, bridge, plug};

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 21);
    const US: Mac = [2, 0, 0, 0, 0, 1];

    fn hardware(interface: &str) -> String {
        let mut all = getifaddrs().unwrap().filter(|found| found.interface_name == interface);
        text(all.find_map(|found| found.address?.as_link_addr()?.addr()).unwrap())
    }

    #[test]
    fn who_asks_for_nobody_tells_of_nobody() {
        let question = question(US, ADDRESS);
        assert_eq!(teller(&question, ADDRESS), None);
        assert_eq!(&question[38..], ADDRESS.octets());
    }

    #[test]
    fn only_who_has_the_address_tells_of_it() {
        let mut answer = question(US, ADDRESS);
        answer[21] = 2;
        answer[28..32].copy_from_slice(&ADDRESS.octets());
        assert_eq!(teller(&answer, ADDRESS), Some(US));
        assert_eq!(teller(&answer, Ipv4Addr::new(192, 168, 56, 22)), None);
        assert_eq!(teller(&answer[..30], ADDRESS), None);
        answer[13] = 0;
        assert_eq!(teller(&answer, ADDRESS), None, "this is another protocol");
        assert_eq!(text(US), "02:00:00:00:00:01");
    }

    #[test]
    fn two_machines_with_one_address_find_each_other() {
        let switch = Netns::new("switch");
        bridge(End { netns: &switch, name: "net", addresses: &[] });
        let machines =
            [("one", "192.168.56.21/24"), ("twin", "192.168.56.21/24"), ("third", "192.168.56.22/24")];
        let machines = machines.map(|(name, address)| {
            let netns = Netns::new(name);
            plug(&switch, "net", name, End { netns: &netns, name: "eth0", addresses: &[address] });
            netns
        });
        let [one, other, third] = &machines;
        let twin = one.enter(|| of(ADDRESS)).expect("the other one answers");
        let its = other.enter(|| hardware("eth0"));
        assert_eq!(twin, Twin { address: ADDRESS, interface: "eth0".to_owned(), hardware: its });
        assert_eq!(third.enter(|| of(Ipv4Addr::new(192, 168, 56, 22))), None);
        assert_eq!(third.enter(|| of(ADDRESS)), None, "this machine does not have it");
    }
}

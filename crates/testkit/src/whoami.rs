//! Small servers that answer with their own name and the client's address as they see it, and the questions to them.
//! With these a test asks "who answers here, and is the client masqueraded?" of a real kernel.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket as AsyncUdpSocket};
use tokio::sync::oneshot;

use crate::Netns;

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A server of this name, which sees the client at this address.
    From(String, IpAddr),
    /// Refused at once: a reset, or an ICMP that the port or host cannot be reached.
    Refused,
    /// Nothing came.
    Silence,
}

/// A TCP and UDP server on one port of a namespace (all addresses, both families); stopped when dropped.
#[derive(Debug)]
pub struct Whoami {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Whoami {
    /// Starts a server that answers with `name`. It is bound when this returns.
    pub fn start(netns: &Netns, port: u16, name: &str) -> Self {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let (tcp, udp) = netns.enter(|| {
            let tcp =
                std::net::TcpListener::bind(address).expect("the TCP port is free in a namespace of our own");
            let udp = UdpSocket::bind(address).expect("the UDP port is free in a namespace of our own");
            (tcp, udp)
        });
        let name = name.to_owned();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(async {
                tcp.set_nonblocking(true).expect("a listener can be made non-blocking");
                udp.set_nonblocking(true).expect("a socket can be made non-blocking");
                let tcp = TcpListener::from_std(tcp).expect("within a runtime");
                let udp = AsyncUdpSocket::from_std(udp).expect("within a runtime");
                tokio::select! {
                    () = serve_tcp(tcp, &name) => {}
                    () = serve_udp(udp, &name) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Whoami {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            // The thread may have ended by a panic; that is reported by its join.
            let _ = stop.send(());
            if thread.join().is_err() {
                eprintln!("a whoami server panicked");
            }
        }
    }
}

/// Opens connections to `to` from inside a namespace, and tells who answered.
pub fn ask_tcp(from: &Netns, to: SocketAddr, patience: Duration) -> Answer {
    let asked = from.enter(|| -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        // Something to say, so that the same function suits servers that wait for a request.
        stream.write_all(b"whoami\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    answer(asked)
}

/// Sends one datagram to `to` from inside a namespace, and tells who answered.
pub fn ask_udp(from: &Netns, to: SocketAddr, patience: Duration) -> Answer {
    let asked = from.enter(|| -> io::Result<String> {
        let any =
            if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(b"whoami\n")?;
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    });
    answer(asked)
}

fn answer(asked: io::Result<String>) -> Answer {
    match asked {
        Ok(text) => {
            let (name, seen) =
                text.trim().rsplit_once(' ').unwrap_or_else(|| panic!("not a whoami answer: {text:?}"));
            Answer::From(name.to_owned(), seen.parse().unwrap_or_else(|_| panic!("not an address: {seen:?}")))
        }
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable => Answer::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Answer::Silence,
            _ => panic!("asking failed in an unexpected way: {error}"),
        },
    }
}

async fn serve_tcp(listener: TcpListener, name: &str) {
    while let Ok((mut stream, peer)) = listener.accept().await {
        let answer = line(name, peer);
        tokio::spawn(async move {
            // A client that is gone already is its own business. The request is read first: closing with unread bytes
            // would reset the connection under the answer.
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

async fn serve_udp(socket: AsyncUdpSocket, name: &str) {
    let mut buffer = [0; 512];
    loop {
        // Errors are ICMP messages about earlier answers.
        if let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(line(name, peer).as_bytes(), peer).await;
        }
    }
}

fn line(name: &str, peer: SocketAddr) -> String {
    format!("{name} {}\n", peer.ip().to_canonical())
}

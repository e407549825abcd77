//! One question to one upstream.
//!
//! Promises: every question has a socket, a port and an id of its own, and only a reply that matches all of them and the
//! question counts (RFC 5452); a reply cut short is asked for again over TCP. Everything ends by the deadline given.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::Ask;
use crate::handler::without_edns;
use crate::wire::message::{self, Message};

/// The longest datagram that is read.
const BUFFER: usize = 4096;

/// Asks `upstream`.
pub(super) async fn exchange(upstream: SocketAddr, ask: &Ask, deadline: Instant) -> io::Result<Message> {
    let reply = timeout_at(deadline, by_udp(upstream, ask)).await.map_err(|_| timed_out())??;
    if !reply.is_truncated() {
        return Ok(reply);
    }
    match timeout_at(deadline, by_tcp(upstream, ask)).await {
        Ok(Ok(whole)) => Ok(whole),
        // What was cut is better than nothing: the client sees the mark and may try TCP itself.
        _ => Ok(reply),
    }
}

async fn by_udp(upstream: SocketAddr, ask: &Ask) -> io::Result<Message> {
    let any = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(upstream).await?;
    let id = rand::random();
    socket.send(&question(id, ask)).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else may be forged, or late: the true reply can still come.
        if let Some(reply) = accept(buffer[..length].to_vec(), id, ask) {
            return Ok(reply);
        }
    }
}

async fn by_tcp(upstream: SocketAddr, ask: &Ask) -> io::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let id = rand::random();
    let question = question(id, ask);
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), &question[..]].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    accept(reply, id, ask)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a reply to the question"))
}

fn question(id: u16, ask: &Ask) -> Vec<u8> {
    message::question(id, &ask.question, ask.checking_disabled, ask.dnssec_ok)
}

fn accept(bytes: Vec<u8>, id: u16, ask: &Ask) -> Option<Message> {
    Message::new(bytes, without_edns).filter(|reply| reply.answers(id, &ask.name, ask.rtype))
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no reply in time")
}

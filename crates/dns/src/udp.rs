//! UDP: threads that read and write many datagrams with one system call each.
//!
//! One blocking socket and one thread for each core and address, sharing the port (SO_REUSEPORT), so that the kernel spreads
//! clients over cores and nothing stands between the socket and the answer. Promises: a thread never waits for anything but
//! its socket; what needs time goes to the runtime, a bounded number at once, and is dropped beyond (clients ask again).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, sendto};
use socket2::SockRef;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::core::Core;
use crate::fast::{Job, Step, step};
use crate::metrics::{Served, Way};

/// How many datagrams are taken at once.
const BATCH: usize = 32;
/// The longest question that is read whole.
const QUESTION: usize = 2048;

/// One socket and what its thread needs.
pub(crate) struct Worker {
    /// The socket, blocking.
    pub(crate) socket: Arc<UdpSocket>,
    /// Where to answer from.
    pub(crate) core: Arc<Core>,
    /// Who does what needs time.
    pub(crate) runtime: Handle,
    /// How much of that may be under way.
    pub(crate) jobs: Arc<Semaphore>,
    /// Set before the socket is shut down.
    pub(crate) stopped: Arc<AtomicBool>,
}

/// Wakes the thread that reads `socket`, for good. The kernel calls an unconnected socket's shutdown an error and does it.
pub(crate) fn wake(socket: &UdpSocket) {
    let _ = SockRef::from(socket).shutdown(Shutdown::Both);
}

/// A received datagram's length and sender.
type Packet = (usize, Option<SockaddrStorage>);

/// The replies of a batch.
struct Replies {
    buffers: Vec<Vec<u8>>,
    addresses: Vec<Option<SockaddrStorage>>,
    served: Vec<Served>,
}

impl Worker {
    /// Reads and answers until the socket is shut down.
    pub(crate) fn run(self) -> io::Result<()> {
        let mut questions = vec![[0_u8; QUESTION]; BATCH];
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let mut sending = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let mut replies = Replies {
            buffers: (0..BATCH).map(|_| Vec::with_capacity(512)).collect(),
            addresses: Vec::with_capacity(BATCH),
            served: Vec::with_capacity(BATCH),
        };
        let v6 = self.socket.local_addr()?.is_ipv6();
        loop {
            let packets = match self.receive(&mut headers, &mut questions) {
                Err(Errno::ESHUTDOWN) => return Ok(()),
                Ok(packets) => packets,
                // An earlier reply's ICMP error, or a signal: says nothing about this socket.
                Err(Errno::EINTR | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {
                    continue;
                }
                // The kernel is short of memory: it will not stay so.
                Err(Errno::ENOBUFS | Errno::ENOMEM) => {
                    std::thread::yield_now();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let begun = Instant::now();
            self.answer(&questions, &packets, &mut replies);
            self.send(&mut sending, &replies);
            let took = begun.elapsed();
            for served in replies.served.drain(..) {
                self.core.metrics.served(Way { tcp: false, v6 }, served, took);
            }
        }
    }

    /// Waits for a datagram and takes what else is there, into one buffer each. ESHUTDOWN when this is to end.
    fn receive(
        &self,
        headers: &mut MultiHeaders<SockaddrStorage>,
        buffers: &mut [[u8; QUESTION]],
    ) -> Result<Vec<Packet>, Errno> {
        let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let received =
            recvmmsg(self.socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None);
        // First this: a socket that was shut down gives datagrams without an address, not to be looked at.
        if self.stopped.load(Ordering::Acquire) {
            return Err(Errno::ESHUTDOWN);
        }
        Ok(received?.map(|message| (message.bytes, message.address)).collect())
    }

    fn answer(&self, questions: &[[u8; QUESTION]], packets: &[Packet], replies: &mut Replies) {
        replies.addresses.clear();
        let zone = self.core.zone();
        for (question, (length, address)) in questions.iter().zip(packets) {
            let Some(from) = address.as_ref().and_then(client) else { continue };
            let out = &mut replies.buffers[replies.addresses.len()];
            match step(&self.core, &zone, &question[..*length], out) {
                Step::Reply(served) => {
                    replies.addresses.push(*address);
                    replies.served.extend(served);
                }
                Step::Later(job) => self.later(job, from),
                Step::Nothing => {}
            }
        }
    }

    fn send(&self, headers: &mut MultiHeaders<SockaddrStorage>, replies: &Replies) {
        let slices: Vec<_> =
            replies.buffers.iter().take(replies.addresses.len()).map(|out| [IoSlice::new(out)]).collect();
        let mut from = 0;
        while from < slices.len() {
            let (slices, addresses) = (&slices[from..], &replies.addresses[from..]);
            match sendmmsg(self.socket.as_raw_fd(), headers, slices, addresses, [], MsgFlags::empty()) {
                Ok(sent) => from += sent.count().max(1),
                Err(Errno::EINTR) => {}
                // The first of them cannot be sent (its client is unreachable, say): the others may.
                Err(_) => from += 1,
            }
        }
    }

    fn later(&self, job: Job, from: SocketAddr) {
        let Ok(permit) = Arc::clone(&self.jobs).try_acquire_owned() else { return };
        let (core, socket) = (Arc::clone(&self.core), Arc::clone(&self.socket));
        let begun = Instant::now();
        self.runtime.spawn(async move {
            let _permit = permit;
            let Some((reply, served)) = job.run(&core, from).await else { return };
            // A full socket buffer loses the reply, as UDP may; it must not block the runtime.
            let _ = sendto(socket.as_raw_fd(), &reply, &SockaddrStorage::from(from), MsgFlags::MSG_DONTWAIT);
            if let Some(served) = served {
                core.metrics.served(Way { tcp: false, v6: from.is_ipv6() }, served, begun.elapsed());
            }
        });
    }
}

/// The client's address; none when nothing can be sent there.
fn client(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::from(*address));
    let any = v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::from(*address)))?;
    (any.port() != 0 && !any.ip().is_unspecified()).then_some(any)
}

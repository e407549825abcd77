//! How much is served at once, and how long anything may take.

use std::time::Duration;

/// Limits of a server. Nobody (a user, an address) takes more than half of what is shared by all.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body of a request.
    pub body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Bytes of bodies that are received and worked on at the same time.
    pub upload_bytes: usize,
    /// Requests that are worked on at the same time, over all priority levels.
    pub seats: usize,
    /// How long a request waits to be worked on.
    pub queue_wait: Duration,
    /// Watches at the same time.
    pub watches: usize,
    /// Answers at the same time that are too long to be handed to the connection whole.
    pub long_answers: usize,
    /// Connections at the same time.
    pub connections: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the head of a request may take to arrive.
    pub header_timeout: Duration,
    /// How long a client may read nothing while something is to be sent to it.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 3 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            upload_bytes: 256 * 1024 * 1024,
            seats: 2000,
            queue_wait: Duration::from_secs(15),
            watches: 20_000,
            long_answers: 400,
            connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// What a request is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Mutating,
    ReadOnly,
    Watch,
}

//! Snapshots: the whole state at one revision as a file or a stream, with the few files beside the store that belong to it.
//!
//! A magic line with the format's number, then frames: a head, files, records in key order, and an end that counts them.
//! Every frame has a checksum, so what is damaged, cut off or of a newer format is found out before anything of it is used.
//! [`pieces`] writes, [`Decoder`] reads piecewise, [`Assembler`] and [`Contents::read`] read all and check all.
//! Refuses: to know what the bytes mean, and to read a state that is not whole.

mod decode;
mod encode;

use std::io::Read;
use std::sync::Arc;

use decode::{Decoder, Part};
pub use encode::pieces;

use crate::{Record, Revision};

/// The first line of a snapshot, without its number.
pub const MAGIC: &str = "svcd-snapshot ";
/// The format that is written; older ones are read too.
const FORMAT: u32 = 1;

const HEAD: u8 = 1;
const FILE: u8 = 2;
const RECORDS: u8 = 3;
const END: u8 = 4;

/// How far the revision of a restored store is ahead of its snapshot's.
///
/// Whatever was written between the snapshot and the loss took revisions after the snapshot's. If the restored store gave
/// them out again, a client that saw the first would take the second for it. So they are skipped, all that a server can
/// have written: at 100,000 writes a second this is four months. Every revision from before the restore is then older than
/// the history, and a watch from there is told so and lists again.
pub const JUMP: u64 = 1_000_000_000_000;

/// When and of what a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// When it was taken, in seconds of the Unix clock.
    pub time: u64,
    /// The revision whose state it is.
    pub revision: Revision,
}

/// A file that belongs to the state.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What it is called.
    pub name: String,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// Says what it is called and not what is in it: keys are.
impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why something cannot be read as a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It never was one.
    #[error("it is no snapshot of svcd")]
    Foreign,
    /// A newer program wrote it.
    #[error("it has format {found}, and this program knows formats up to {FORMAT}")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// The end is missing.
    #[error("it is not whole: its end is missing")]
    Torn,
    /// It is not what was written.
    #[error("it is damaged near byte {near}: {reason}")]
    Damaged {
        /// Where the damage was seen.
        near: u64,
        /// What was seen.
        reason: &'static str,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A snapshot that was found whole.
#[derive(Debug)]
pub struct Contents {
    /// When and of what.
    pub head: Head,
    /// The files that belong to it.
    pub files: Vec<Attachment>,
    /// The records, in key order.
    pub records: Vec<Arc<Record>>,
    /// How many bytes the snapshot had.
    pub size: u64,
}

impl Contents {
    /// Reads a whole snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing of it can be trusted then.
    pub fn read(mut source: impl Read) -> Result<Self, SnapshotError> {
        let mut assembler = Assembler::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return assembler.finish(),
                Ok(count) => assembler.feed(&buffer[..count])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Puts a snapshot together that arrives in pieces.
#[derive(Debug, Default)]
pub struct Assembler {
    decoder: Decoder,
    head: Option<Head>,
    files: Vec<Attachment>,
    records: Vec<Arc<Record>>,
}

impl Assembler {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`SnapshotError`] as soon as it is known that it is not whole.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), SnapshotError> {
        self.decoder.feed(piece);
        while let Some(part) = self.decoder.part()? {
            match part {
                Part::Head(head) => self.head = Some(head),
                Part::File(file) => self.files.push(file),
                Part::Records(more) => self.records.extend(more),
            }
        }
        Ok(())
    }

    /// The whole, when nothing more is to come.
    ///
    /// # Errors
    /// [`SnapshotError`] when it is not whole.
    pub fn finish(self) -> Result<Contents, SnapshotError> {
        let size = self.decoder.finish()?;
        let head = self.head.ok_or(SnapshotError::Torn)?;
        Ok(Contents { head, files: self.files, records: self.records, size })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Page;

    fn record(n: u64) -> Arc<Record> {
        let (created, modified) = (Revision(n), Revision(n + 1));
        let value = Bytes::from(vec![b'v'; 3000]);
        Arc::new(Record { key: format!("/k/{n:05}").into(), value, meta: "m".into(), created, modified })
    }

    fn page(count: u64) -> Page {
        Page { records: (1..=count).map(record).collect(), revision: Revision(5000), remaining: 0 }
    }

    fn written(count: u64) -> Vec<u8> {
        let files = vec![Attachment { name: "ca.key".to_owned(), contents: b"secret".to_vec() }];
        pieces(page(count), 1_700_000_000, files).flatten().collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for count in [0, 1, 1000] {
            let bytes = written(count);
            let contents = Contents::read(&*bytes).unwrap();
            assert_eq!(contents.head, Head { time: 1_700_000_000, revision: Revision(5000) });
            assert_eq!(contents.files[0].contents, b"secret");
            assert_eq!(contents.records, page(count).records);
            assert_eq!(contents.size, bytes.len() as u64);
        }
    }

    #[test]
    fn every_cut_is_seen() {
        let bytes = written(3);
        for length in 0..bytes.len() {
            assert!(Contents::read(&bytes[..length]).is_err(), "cut at {length}");
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert!(matches!(Contents::read(&*longer), Err(SnapshotError::Damaged { .. })));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = written(1);
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(Contents::read(&*flipped).is_err(), "bit {at}");
        }
    }

    #[test]
    fn what_is_missing_in_the_middle_is_seen() {
        let all: Vec<Vec<u8>> = pieces(page(1000), 1, Vec::new()).collect();
        assert!(all.len() > 4, "several frames of records");
        for gone in 0..all.len() {
            let rest = all.iter().enumerate().filter(|(n, _)| *n != gone).flat_map(|(_, piece)| piece);
            let rest: Vec<u8> = rest.copied().collect();
            assert!(Contents::read(&*rest).is_err(), "piece {gone}");
        }
        let mut swapped = all.clone();
        swapped.swap(1, 2);
        assert!(Contents::read(&*swapped.concat()).is_err());
    }

    #[test]
    fn other_things_are_told_apart() {
        assert!(matches!(Contents::read(&b"#!/bin/sh\n echo no snapshot"[..]), Err(SnapshotError::Foreign)));
        let newer = [&b"svcd-snapshot 2\n"[..], &[7; 50]].concat();
        assert!(matches!(Contents::read(&*newer), Err(SnapshotError::Newer { found: 2 })));
        assert!(matches!(Contents::read(&b""[..]), Err(SnapshotError::Torn)));
    }
}

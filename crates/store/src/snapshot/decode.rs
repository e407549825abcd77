//! Reading: bytes in, in pieces of any size; parts out, each once its checksum was found right.

use std::sync::Arc;

use bytes::Bytes;

use super::{Attachment, END, FILE, FORMAT, HEAD, Head, MAGIC, RECORDS, SnapshotError};
use crate::codec::{Malformed, Reader};
use crate::{Record, Revision};

const HEADER: usize = 9;
/// No frame is longer: a length beyond is damage, and nothing to wait for.
const LONGEST: usize = 256 << 20;

const AFTER_THE_END: &str = "there is something after the end";

/// A part of a snapshot.
#[derive(Debug)]
pub(super) enum Part {
    /// The first.
    Head(Head),
    /// A file.
    File(Attachment),
    /// Some records, in key order.
    Records(Vec<Arc<Record>>),
}

/// Takes a snapshot apart.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    waiting: Vec<u8>,
    /// How many bytes were taken.
    taken: u64,
    head: Option<Head>,
    records: u64,
    files: u64,
    last: Option<Arc<str>>,
    begun: bool,
    ended: bool,
}

impl Decoder {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next part; `None` until there are more bytes.
    ///
    /// # Errors
    /// [`SnapshotError`]; there is no way on then.
    pub(super) fn part(&mut self) -> Result<Option<Part>, SnapshotError> {
        if !self.begun && !self.begin()? {
            return Ok(None);
        }
        if self.ended && !self.waiting.is_empty() {
            return Err(self.damaged(AFTER_THE_END));
        }
        let Some((kind, payload)) = self.frame()? else { return Ok(None) };
        let part = self.interpret(kind, &payload)?;
        self.taken += (HEADER + payload.len()) as u64;
        Ok(part)
    }

    /// Says that there are no more bytes; answers how many there were.
    ///
    /// # Errors
    /// [`SnapshotError::Torn`] where something is missing, [`SnapshotError::Damaged`] where something is too much.
    pub(super) fn finish(self) -> Result<u64, SnapshotError> {
        if !self.ended {
            return Err(SnapshotError::Torn);
        }
        if self.waiting.is_empty() { Ok(self.taken) } else { Err(self.damaged(AFTER_THE_END)) }
    }

    /// The magic line; false while it is not all there.
    fn begin(&mut self) -> Result<bool, SnapshotError> {
        let known = self.waiting.len().min(MAGIC.len());
        if self.waiting[..known] != MAGIC.as_bytes()[..known] {
            return Err(SnapshotError::Foreign);
        }
        let Some(end) = self.waiting.iter().take(MAGIC.len() + 11).position(|byte| *byte == b'\n') else {
            let short = self.waiting.len() < MAGIC.len() + 11;
            return if short { Ok(false) } else { Err(SnapshotError::Foreign) };
        };
        let number = std::str::from_utf8(&self.waiting[MAGIC.len()..end]).ok();
        match number.and_then(|text| text.parse().ok()) {
            Some(found) if found > FORMAT => return Err(SnapshotError::Newer { found }),
            Some(FORMAT) => {}
            _ => return Err(SnapshotError::Foreign),
        }
        self.waiting.drain(..=end);
        self.taken = end as u64 + 1;
        self.begun = true;
        Ok(true)
    }

    /// The next whole frame.
    fn frame(&mut self) -> Result<Option<(u8, Bytes)>, SnapshotError> {
        let Some((header, rest)) = self.waiting.split_at_checked(HEADER) else { return Ok(None) };
        let kind = header[0];
        let length: [u8; 4] = header[1..5].try_into().expect("four bytes");
        let expected = u32::from_le_bytes(header[5..9].try_into().expect("four bytes"));
        let count = u32::from_le_bytes(length) as usize;
        if count > LONGEST {
            return Err(self.damaged("a part is longer than any can be"));
        }
        let Some(payload) = rest.get(..count) else { return Ok(None) };
        if checksum(kind, length, payload) != expected {
            return Err(self.damaged("a checksum is wrong"));
        }
        let payload = Bytes::copy_from_slice(payload);
        self.waiting.drain(..HEADER + count);
        Ok(Some((kind, payload)))
    }

    fn interpret(&mut self, kind: u8, payload: &Bytes) -> Result<Option<Part>, SnapshotError> {
        match (kind, &self.head) {
            (HEAD, None) => {
                let head = head(payload).map_err(|_| self.damaged("its head cannot be read"))?;
                self.head = Some(head.clone());
                Ok(Some(Part::Head(head)))
            }
            (FILE, Some(_)) => {
                self.files += 1;
                let file = attachment(payload).map_err(|_| self.damaged("a file cannot be read"))?;
                Ok(Some(Part::File(file)))
            }
            (RECORDS, Some(head)) => {
                let newest = head.revision;
                let records = records(payload).map_err(|_| self.damaged("a record cannot be read"))?;
                self.check(&records, newest)?;
                Ok(Some(Part::Records(records)))
            }
            (END, Some(_)) => {
                let counts = counts(payload).map_err(|_| self.damaged("its end cannot be read"))?;
                if counts != (self.records, self.files) {
                    return Err(self.damaged("a part is missing"));
                }
                self.ended = true;
                Ok(None)
            }
            _ => Err(self.damaged("a part is out of place")),
        }
    }

    fn check(&mut self, records: &[Arc<Record>], newest: Revision) -> Result<(), SnapshotError> {
        for record in records {
            if self.last.as_ref().is_some_and(|last| *last >= record.key) {
                return Err(self.damaged("the records are out of order"));
            }
            if record.created > record.modified || record.modified > newest {
                return Err(self.damaged("a record is newer than the snapshot"));
            }
            self.last = Some(record.key.clone());
        }
        self.records += records.len() as u64;
        Ok(())
    }

    fn damaged(&self, reason: &'static str) -> SnapshotError {
        SnapshotError::Damaged { near: self.taken, reason }
    }
}

pub(super) fn checksum(kind: u8, length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

fn head(payload: &[u8]) -> Result<Head, Malformed> {
    let mut reader = Reader(payload);
    let head = Head { time: reader.u64()?, revision: Revision(reader.u64()?) };
    if reader.is_empty() { Ok(head) } else { Err(Malformed) }
}

fn attachment(payload: &[u8]) -> Result<Attachment, Malformed> {
    let mut reader = Reader(payload);
    let file = Attachment { name: reader.text()?.to_owned(), contents: reader.bytes()?.to_vec() };
    if reader.is_empty() { Ok(file) } else { Err(Malformed) }
}

fn counts(payload: &[u8]) -> Result<(u64, u64), Malformed> {
    let mut reader = Reader(payload);
    let counts = (reader.u64()?, reader.u64()?);
    if reader.is_empty() { Ok(counts) } else { Err(Malformed) }
}

fn records(payload: &Bytes) -> Result<Vec<Arc<Record>>, Malformed> {
    let mut reader = Reader(payload);
    let mut records = Vec::new();
    while !reader.is_empty() {
        let key = reader.text()?.into();
        let (created, modified) = (Revision(reader.u64()?), Revision(reader.u64()?));
        let meta = payload.slice_ref(reader.bytes()?);
        let value = payload.slice_ref(reader.bytes()?);
        records.push(Arc::new(Record { key, value, meta, created, modified }));
    }
    Ok(records)
}

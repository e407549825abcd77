//! Writing: a page of everything, piece by piece, so that nobody needs the whole snapshot in memory.

use std::sync::Arc;
use std::vec::IntoIter;

use super::{Attachment, END, FILE, FORMAT, HEAD, MAGIC, RECORDS};
use crate::codec::{put_bytes, put_u64};
use crate::{Page, Record, Revision};

/// A frame of records is full from here on.
const FULL: usize = 256 * 1024;

/// The snapshot of a page with every record in it, taken at this time (in seconds), with these files beside it.
pub fn pieces(page: Page, time: u64, files: Vec<Attachment>) -> impl Iterator<Item = Vec<u8>> + Send {
    let Page { records, revision, .. } = page;
    let end = end(records.len(), files.len());
    let records = Frames { records: records.into_iter() };
    let files = files.into_iter().map(|file| frame(FILE, &attachment(&file)));
    [begin(revision, time)].into_iter().chain(files).chain(records).chain([end])
}

fn begin(revision: Revision, time: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    put_u64(&mut payload, time);
    put_u64(&mut payload, revision.0);
    let mut out = format!("{MAGIC}{FORMAT}\n").into_bytes();
    out.extend(frame(HEAD, &payload));
    out
}

fn attachment(file: &Attachment) -> Vec<u8> {
    let mut payload = Vec::new();
    put_bytes(&mut payload, file.name.as_bytes());
    put_bytes(&mut payload, &file.contents);
    payload
}

fn end(records: usize, files: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    put_u64(&mut payload, records as u64);
    put_u64(&mut payload, files as u64);
    frame(END, &payload)
}

/// Kind, length, checksum of all the rest, payload.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("records are limited far below 4 GiB").to_le_bytes();
    let mut out = Vec::with_capacity(9 + payload.len());
    out.push(kind);
    out.extend_from_slice(&length);
    out.extend_from_slice(&super::decode::checksum(kind, length, payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

struct Frames {
    records: IntoIter<Arc<Record>>,
}

impl Iterator for Frames {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        while payload.len() < FULL
            && let Some(record) = self.records.next()
        {
            put_bytes(&mut payload, record.key.as_bytes());
            put_u64(&mut payload, record.created.0);
            put_u64(&mut payload, record.modified.0);
            put_bytes(&mut payload, &record.meta);
            put_bytes(&mut payload, &record.value);
        }
        (!payload.is_empty()).then(|| frame(RECORDS, &payload))
    }
}

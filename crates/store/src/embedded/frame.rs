//! One group of transactions as the log keeps it: magic, length, checksum, then the changes.
//!
//! Promises: a frame that decodes is one that was written whole. What a change needs of the past (when the key was
//! created, what a delete deleted) is not in it; replaying the frames in order brings it back.

use std::sync::Arc;

use bytes::Bytes;

use super::change::Change;
use super::history::Millis;
use crate::codec::{Malformed, Reader, put_bytes, put_u32, put_u64};
use crate::{Event, Revision};

const MAGIC: [u8; 4] = *b"grp\xf5";
const HEADER: usize = 12;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_WITH_LAST: u8 = 3;

/// A decoded frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) time: Millis,
    /// The transactions, in order, each with its revision.
    pub(super) transactions: Vec<(Revision, Vec<Change>)>,
}

impl Group {
    /// The revisions of the first and the last transaction.
    pub(super) fn span(&self) -> Option<(Revision, Revision)> {
        Some((self.transactions.first()?.0, self.transactions.last()?.0))
    }
}

/// Writes the frame of a group's events into an empty buffer.
pub(super) fn encode(out: &mut Vec<u8>, events: &[Arc<Event>], time: Millis) {
    out.clear();
    out.extend_from_slice(&MAGIC);
    out.resize(HEADER, 0);
    put_u64(out, time);
    for transaction in events.chunk_by(|a, b| a.revision == b.revision) {
        put_u64(out, transaction[0].revision.0);
        put_u32(out, transaction.len());
        transaction.iter().for_each(|event| encode_event(out, event));
    }
    let length = u32::try_from(out.len() - HEADER).expect("groups are limited far below 4 GiB");
    out[4..8].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&out[4..8], &out[HEADER..]);
    out[8..12].copy_from_slice(&checksum.to_le_bytes());
}

fn encode_event(out: &mut Vec<u8>, event: &Event) {
    let record = &event.record;
    let unchanged = event.previous.as_ref().is_some_and(|previous| Arc::ptr_eq(previous, record));
    let kind = match (event.deleted, unchanged) {
        (false, _) => PUT,
        (true, true) => DELETE,
        (true, false) => DELETE_WITH_LAST,
    };
    out.push(kind);
    put_bytes(out, record.key.as_bytes());
    if kind == PUT {
        put_bytes(out, &record.meta);
    }
    if kind != DELETE {
        put_bytes(out, &record.value);
    }
}

/// Takes the frame at the front of `input`, and says how long it was.
pub(super) fn decode(input: &[u8]) -> Result<(Group, usize), Malformed> {
    let mut header = Reader(input);
    if header.take(MAGIC.len())? != MAGIC {
        return Err(Malformed);
    }
    let length = header.u32()?;
    let expected = header.u32()?;
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let payload = header.take(length)?;
    if checksum(&input[4..8], payload) != expected {
        return Err(Malformed);
    }
    Ok((decode_group(payload)?, HEADER + length))
}

/// Whether a whole frame stands anywhere in `input`: what is before it is then no torn end, but damage.
pub(super) fn stands_in(input: &[u8]) -> bool {
    (0..input.len()).any(|at| input[at..].starts_with(&MAGIC) && decode(&input[at..]).is_ok())
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(payload);
    hasher.finalize()
}

fn decode_group(payload: &[u8]) -> Result<Group, Malformed> {
    let mut reader = Reader(payload);
    let time = reader.u64()?;
    let mut transactions = Vec::new();
    while !reader.is_empty() {
        let revision = Revision(reader.u64()?);
        let count = reader.u32()?;
        let changes = (0..count).map(|_| decode_change(&mut reader)).collect::<Result<_, _>>()?;
        transactions.push((revision, changes));
    }
    Ok(Group { time, transactions })
}

fn decode_change(reader: &mut Reader<'_>) -> Result<Change, Malformed> {
    let kind = reader.u8()?;
    let key: Arc<str> = reader.text()?.into();
    match kind {
        PUT => {
            let meta = Bytes::copy_from_slice(reader.bytes()?);
            Ok(Change::Put { key, meta, value: Bytes::copy_from_slice(reader.bytes()?) })
        }
        DELETE => Ok(Change::Delete { key, last: None }),
        DELETE_WITH_LAST => Ok(Change::Delete { key, last: Some(Bytes::copy_from_slice(reader.bytes()?)) }),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::super::state::State;
    use super::*;
    use crate::{Op, Txn, Value};

    fn put(key: &str) -> Op {
        Op::Put { key: key.into(), value: Value::with_revision_at("v", 1), meta: Bytes::from_static(b"m") }
    }

    /// Three transactions, with every kind of change.
    fn frame() -> Vec<u8> {
        let state = State::empty();
        let mut stage = Stage::on(&state);
        let delete = |key: &str, last| Op::Delete { key: key.into(), last };
        for ops in [
            vec![put("a"), put("b")],
            vec![delete("a", None), put("c")],
            vec![delete("b", Some(Value::plain("bye"))), delete("nothing", None)],
        ] {
            stage.run(Txn { expect: Vec::new(), ops }).unwrap();
        }
        let mut out = b"left over".to_vec();
        encode(&mut out, &stage.into_events(), 77);
        out
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let frame = frame();
        let (group, length) = decode(&frame).unwrap();
        assert_eq!((length, group.time), (frame.len(), 77));
        assert_eq!(group.span(), Some((Revision(2), Revision(4))));
        let put = |key: &str, value: &'static str| Change::Put {
            key: key.into(),
            value: Bytes::from_static(value.as_bytes()),
            meta: Bytes::from_static(b"m"),
        };
        let delete = |key: &str, last: Option<&'static str>| Change::Delete {
            key: key.into(),
            last: last.map(|last| Bytes::from_static(last.as_bytes())),
        };
        let expected = [
            (Revision(2), vec![put("a", "v2"), put("b", "v2")]),
            (Revision(3), vec![delete("a", None), put("c", "v3")]),
            (Revision(4), vec![delete("b", Some("bye"))]),
        ];
        assert_eq!(group.transactions, expected);
    }

    #[test]
    fn nothing_less_or_else_is_decoded() {
        let frame = frame();
        for end in 0..frame.len() {
            assert_eq!(decode(&frame[..end]), Err(Malformed));
        }
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), Err(Malformed), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_found_behind_rubbish() {
        let rubbish = [&MAGIC[..], b"and more", &MAGIC[..2]].concat();
        assert!(stands_in(&[&rubbish, &frame()[..], b"end"].concat()));
        assert!(!stands_in(&[&rubbish, &frame()[1..]].concat()));
    }
}

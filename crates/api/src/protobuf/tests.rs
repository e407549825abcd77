//! `golden.txt` holds pairs of lines: what upstream's own encoder wrote (hexadecimal), and the same object as JSON without
//! empty members.

use serde_json::Value;

use super::*;

fn golden() -> Vec<(Vec<u8>, Value)> {
    let lines: Vec<&str> = include_str!("golden.txt").lines().collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    lines
        .chunks(2)
        .map(|pair| {
            (pair[0].as_bytes().chunks(2).map(byte).collect(), serde_json::from_str(pair[1]).unwrap())
        })
        .collect()
}

#[test]
fn reads_what_upstream_writes() {
    for (bytes, wanted) in golden() {
        assert_eq!(decode(&bytes).unwrap(), wanted);
    }
}

#[test]
fn bytes_that_are_cut_short_or_changed_give_an_error_or_an_object_but_no_panic() {
    for (bytes, _) in golden() {
        for end in 0..bytes.len() {
            let _ = decode(&bytes[..end]);
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[end] ^= 1 << bit;
                let _ = decode(&changed);
            }
        }
        assert!(decode(&bytes[..bytes.len() / 2]).unwrap_err().contains("cut short"));
    }
}

#[test]
fn what_is_not_protobuf_and_what_is_not_known_is_said() {
    assert!(decode(b"{}").unwrap_err().contains("prefix"));
    let unknown = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Odd";
    assert_eq!(decode(unknown).unwrap_err(), "no kind \"Odd\" of \"v1\" is known in protobuf");
}

#[test]
fn every_message_that_a_field_names_is_there() {
    let schema = schema::get();
    for name in include_str!("../../proto/schema.txt").lines().filter(|l| !l.starts_with([' ', '='])) {
        for field in schema.fields(name).unwrap() {
            if let Form::Message(inner) = field.form {
                assert!(schema.fields(inner).is_ok(), "{name}.{}: {inner}", field.name);
            }
        }
    }
}

//! The wire format of protobuf: numbered fields, each with its payload.

/// What a field holds, before its type is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    /// A varint, or a fixed-width number.
    Number(u64),
    /// Anything with a length.
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    pub(super) fn number(self) -> Result<i64, String> {
        match self {
            Self::Number(number) => Ok(number.cast_signed()),
            // The value of a map's entry that was left out.
            Self::Bytes([]) => Ok(0),
            Self::Bytes(_) => Err("a number was expected where the body has bytes".to_owned()),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err("bytes were expected where the body has a number".to_owned()),
        }
    }

    pub(super) fn text(self) -> Result<String, String> {
        let text = str::from_utf8(self.bytes()?).map_err(|_| "a string is not UTF-8".to_owned())?;
        Ok(text.to_owned())
    }
}

/// Reads the fields of one message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Payload<'a>)>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let payload = match key & 7 {
            0 => Payload::Number(self.varint()?),
            1 => Payload::Number(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| cut_short())?;
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Number(u64::from(u32::from_le_bytes(self.fixed()?))),
            other => return Err(format!("{other} is no wire type of protobuf")),
        };
        Ok(Some((key >> 3, payload)))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is longer than 64 bits".to_owned())
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*head)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(head)
    }
}

fn cut_short() -> String {
    "the body is cut short".to_owned()
}

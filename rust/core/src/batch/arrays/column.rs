//! One array in `PostgreSQL`'s binary format.
//!
//! Dimensions (1), a flag for nulls, the element's type, length, lower bound (1), all 32 bits big endian; then each
//! element with its length before it, -1 for a null.

use crate::ids::FlowId;

const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const FLOAT8: u32 = 701;
const UUID: u32 = 2950;

const HEADER: usize = 20;

/// An array while it is being filled.
#[derive(Debug)]
pub struct Column {
    buffer: Vec<u8>,
    length: u32,
    has_null: bool,
    element: u32,
}

impl Column {
    fn new(element: u32, elements: usize, size: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER + elements * (4 + size));
        buffer.resize(HEADER, 0);
        Self { buffer, length: 0, has_null: false, element }
    }

    /// Whether it holds no element.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn push(&mut self, element: Option<&[u8]>) {
        self.length += 1;
        if let Some(bytes) = element {
            self.buffer.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            self.buffer.extend_from_slice(bytes);
        } else {
            self.has_null = true;
            self.buffer.extend_from_slice(&(-1_i32).to_be_bytes());
        }
    }

    /// The finished parameter.
    pub fn finish(mut self) -> Vec<u8> {
        let header = [1, u32::from(self.has_null), self.element, self.length, 1];
        for (at, word) in header.into_iter().enumerate() {
            self.buffer[at * 4..at * 4 + 4].copy_from_slice(&word.to_be_bytes());
        }
        self.buffer
    }
}

fn fixed<const N: usize>(element: u32, values: impl Iterator<Item = Option<[u8; N]>>) -> Column {
    let mut column = Column::new(element, values.size_hint().0, N);
    for value in values {
        column.push(value.as_ref().map(|bytes| &bytes[..]));
    }
    column
}

/// `uuid[]`
pub fn ids<'a>(values: impl Iterator<Item = Option<&'a FlowId>>) -> Column {
    fixed(UUID, values.map(Option::<&FlowId>::copied))
}

/// `int8[]`
pub fn longs(values: impl Iterator<Item = Option<i64>>) -> Column {
    fixed(INT8, values.map(|value| value.map(i64::to_be_bytes)))
}

/// `int4[]`
pub fn ints(values: impl Iterator<Item = Option<i32>>) -> Column {
    fixed(INT4, values.map(|value| value.map(i32::to_be_bytes)))
}

/// `int2[]`
pub fn shorts(values: impl Iterator<Item = i16>) -> Column {
    fixed(INT2, values.map(|value| Some(value.to_be_bytes())))
}

/// `float8[]`
pub fn floats(values: impl Iterator<Item = f64>) -> Column {
    fixed(FLOAT8, values.map(|value| Some(value.to_be_bytes())))
}

/// `bool[]`
pub fn bools(values: impl Iterator<Item = bool>) -> Column {
    fixed(BOOL, values.map(|value| Some([u8::from(value)])))
}

/// `text[]`
pub fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Column {
    slices(TEXT, values.map(|value| value.map(str::as_bytes)))
}

/// `bytea[]`
pub fn bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> Column {
    slices(BYTEA, values)
}

fn slices<'a>(element: u32, values: impl Iterator<Item = Option<&'a [u8]>>) -> Column {
    let mut column = Column::new(element, values.size_hint().0, 16);
    for value in values {
        column.push(value);
    }
    column
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_its_header_and_its_elements() {
        let column = texts([Some("ab"), None].into_iter()).finish();
        assert_eq!(
            column,
            [
                [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1].as_slice(),
                &[0, 0, 0, 2, b'a', b'b', 0xff, 0xff, 0xff, 0xff],
            ]
            .concat()
        );
    }

    #[test]
    fn numbers_are_big_endian() {
        assert_eq!(longs([Some(258)].into_iter()).finish()[20..], [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(floats([1.5].into_iter()).finish()[24..], 1.5_f64.to_be_bytes());
        assert_eq!(bools([true].into_iter()).finish()[20..], [0, 0, 0, 1, 1]);
    }
}

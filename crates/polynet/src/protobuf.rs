//! Messages in protobuf's wire format, to be written.
//!
//! Law: a message refers to tensors where they are. They are copied when it is written, a piece at a time.
//!
//! ```text
//! message := field*
//! field   := number·8 + 0, varint | number·8 + 1, eight bytes | number·8 + 2, length, bytes
//!          | number·8 + 5, four bytes
//! ```

use crate::bytes::put_f32s;
use std::borrow::Cow;
use std::io::{self, Write};

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// Numbers that are made bytes at once.
const PIECE: usize = 1 << 14;

/// A message, field by field.
#[derive(Debug, Default)]
pub(crate) struct Message<'a> {
    /// All but tensors.
    bytes: Vec<u8>,
    /// Tensors, each with how many of the bytes come before it.
    tensors: Vec<(usize, Cow<'a, [f32]>)>,
}

impl<'a> Message<'a> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// How many bytes it is written as.
    pub(crate) fn len(&self) -> usize {
        let tensors = self.tensors.iter();
        self.bytes.len()
            + tensors
                .map(|(_, values)| size_of_val(&values[..]))
                .sum::<usize>()
    }

    /// A whole number or an enum's.
    pub(crate) fn int(mut self, field: u64, value: i64) -> Self {
        self.key(field, VARINT);
        // Negative numbers take the ten bytes of their two's complement.
        self.varint(value as u64);
        self
    }

    pub(crate) fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, FOUR_BYTES);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, EIGHT_BYTES);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn text(self, field: u64, text: &str) -> Self {
        self.blob(field, text.as_bytes())
    }

    pub(crate) fn blob(mut self, field: u64, bytes: &[u8]) -> Self {
        self.key(field, BYTES);
        self.varint(bytes.len() as u64);
        self.bytes.extend(bytes);
        self
    }

    /// A tensor as little-endian bytes.
    pub(crate) fn tensor(mut self, field: u64, values: Cow<'a, [f32]>) -> Self {
        self.key(field, BYTES);
        self.varint(size_of_val(&values[..]) as u64);
        self.tensors.push((self.bytes.len(), values));
        self
    }

    /// A message inside this one.
    pub(crate) fn message(mut self, field: u64, inner: Self) -> Self {
        self.key(field, BYTES);
        self.varint(inner.len() as u64);
        self.fields(inner)
    }

    /// The fields of another message.
    pub(crate) fn fields(mut self, other: Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend(other.bytes);
        let tensors = other.tensors.into_iter();
        self.tensors
            .extend(tensors.map(|(place, values)| (start + place, values)));
        self
    }

    /// Several messages of one field.
    pub(crate) fn messages(self, field: u64, inner: impl IntoIterator<Item = Self>) -> Self {
        let add = |message: Self, inner| message.message(field, inner);
        inner.into_iter().fold(self, add)
    }

    pub(crate) fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let (mut done, mut piece) = (0, Vec::new());
        for (place, values) in &self.tensors {
            to.write_all(&self.bytes[done..*place])?;
            done = *place;
            for values in values.chunks(PIECE) {
                piece.clear();
                put_f32s(&mut piece, values);
                to.write_all(&piece)?;
            }
        }
        to.write_all(&self.bytes[done..])
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        // A vector takes everything.
        let _ = self.write_to(&mut bytes);
        bytes
    }

    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    /// Seven bits a byte, the lowest first; all bytes but the last have the highest bit.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_bytes_of_the_format() {
        // The examples of protobuf's documentation of its encoding, and a tensor between two fields.
        let values = [1.0, -2.0];
        let inner = Message::new().int(1, 150);
        let tensor = Message::new()
            .int(1, 1)
            .tensor(9, (&values).into())
            .int(2, -1);
        let message = Message::new()
            .text(2, "testing")
            .message(3, inner)
            .message(16, tensor)
            .float(4, 0.5)
            .double(4, 0.5);
        let written = message.to_bytes();
        let expected: Vec<u8> = [
            &b"\x12\x07testing"[..],
            b"\x1a\x03\x08\x96\x01",
            b"\x82\x01\x17\x08\x01\x4a\x08\x00\x00\x80\x3f\x00\x00\x00\xc0",
            b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x25\x00\x00\x00\x3f",
            b"\x21\x00\x00\x00\x00\x00\x00\xe0\x3f",
        ]
        .concat();
        assert_eq!(written, expected);
        assert_eq!(message.len(), expected.len());
    }

    #[test]
    fn a_tensor_of_many_pieces_is_written_whole() {
        let values: Vec<f32> = (0..2 * PIECE + 3).map(|value| value as f32).collect();
        let message = Message::new().tensor(1, (&values).into());
        let written = message.to_bytes();
        let mut expected = Vec::new();
        put_f32s(&mut expected, &values);
        assert_eq!(written[written.len() - expected.len()..], expected);
        assert_eq!(written.len(), message.len());
    }
}

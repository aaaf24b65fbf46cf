//! Numbers as little-endian bytes: what ranks send each other. And bytes as text.

/// Two hexadecimal digits for each byte.
#[cfg(feature = "train")]
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The numbers of eight bytes each; what is left over is passed by.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes)
}

/// Eight bytes for each number.
pub(crate) fn of_words(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// Takes a number of eight bytes from the front; nothing if there are fewer.
pub(crate) fn take_word(from: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u64::from_le_bytes(*bytes))
}

/// Takes `count` values of four bytes from the front; nothing if there are fewer.
pub(crate) fn take_f32s(from: &mut &[u8], count: usize) -> Option<Vec<f32>> {
    let (bytes, rest) = from.split_at_checked(count.checked_mul(4)?)?;
    *from = rest;
    let values = bytes.as_chunks().0.iter().copied();
    Some(values.map(f32::from_le_bytes).collect())
}

/// Appends four bytes for each value.
pub(crate) fn put_f32s<'a>(to: &mut Vec<u8>, values: impl IntoIterator<Item = &'a f32>) {
    to.extend(values.into_iter().flat_map(|value| value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let numbers = [0, 1, 0x0102_0304_0506_0708, u64::MAX];
        let values = [0.0, -1.5, f32::MIN_POSITIVE];
        let mut bytes = of_words(numbers);
        assert_eq!(bytes[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(words(&bytes).collect::<Vec<_>>(), numbers);
        put_f32s(&mut bytes, &values);
        let mut rest = bytes.as_slice();
        for number in numbers {
            assert_eq!(take_word(&mut rest), Some(number));
        }
        assert_eq!(take_f32s(&mut rest, 4), None);
        assert_eq!(take_f32s(&mut rest, 3).unwrap(), values);
        assert_eq!((take_word(&mut rest), rest.len()), (None, 0));
        assert_eq!(take_f32s(&mut rest, usize::MAX), None);
    }
}

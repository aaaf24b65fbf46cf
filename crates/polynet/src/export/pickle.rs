//! PyTorch's pickle of a state dict, to be written.
//!
//! Law: only what `torch.load(weights_only=True)` takes: a dictionary of names and tensors, each in a storage
//! of its own.

const PROTOCOL: [u8; 2] = [0x80, 2];
const EMPTY_DICT: u8 = b'}';
const MARK: u8 = b'(';
const SET_ITEMS: u8 = b'u';
const TUPLE: u8 = b't';
const EMPTY_TUPLE: u8 = b')';
const NEW_FALSE: u8 = 0x89;
/// Asks for what the archive holds under the tuple before it.
const PERSISTENT: u8 = b'Q';
/// Calls a function with the tuple before it.
const REDUCE: u8 = b'R';
const STOP: u8 = b'.';

/// A dictionary of `f32` tensors by name and shape; that of index `i` lies in the storage `i`.
pub(super) fn state_dict<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Vec<u8> {
    let mut pickle = Pickle(PROTOCOL.to_vec());
    pickle.codes([EMPTY_DICT, MARK]);
    for (index, (name, shape)) in tensors.into_iter().enumerate() {
        pickle.text(name);
        pickle.tensor(index, shape);
    }
    pickle.codes([SET_ITEMS, STOP]);
    pickle.0
}

struct Pickle(Vec<u8>);

impl Pickle {
    fn codes<const N: usize>(&mut self, codes: [u8; N]) {
        self.0.extend(codes);
    }

    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    /// A whole number of eight bytes.
    fn int(&mut self, value: usize) {
        self.codes([0x8a, 8]);
        self.0.extend((value as u64).to_le_bytes());
    }

    fn ints(&mut self, values: &[usize]) {
        self.codes([MARK]);
        values.iter().for_each(|&value| self.int(value));
        self.codes([TUPLE]);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").into_bytes());
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`.
    fn tensor(&mut self, storage: usize, shape: &[usize]) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.codes([MARK, MARK]);
        self.text("storage");
        self.global("torch", "FloatStorage");
        self.text(&storage.to_string());
        self.text("cpu");
        self.int(shape.iter().product());
        self.codes([TUPLE, PERSISTENT]);
        self.int(0);
        self.ints(shape);
        self.ints(&strides(shape));
        self.codes([NEW_FALSE]);
        self.global("collections", "OrderedDict");
        self.codes([EMPTY_TUPLE, REDUCE, TUPLE, REDUCE]);
    }
}

/// Elements from one index of an axis to the next, in row-major order.
fn strides(shape: &[usize]) -> Vec<usize> {
    let after = |axis: usize| shape[axis + 1..].iter().product();
    (0..shape.len()).map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_those_of_row_major_order() {
        assert_eq!(strides(&[2, 3, 5, 7]), [105, 35, 7, 1]);
        assert_eq!(strides(&[4]), [1]);
        assert!(strides(&[]).is_empty());
    }
}

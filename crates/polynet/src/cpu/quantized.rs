//! Convolutions of bytes inside a prediction.

use super::program::{ByteStore, Step};
use super::shared::of;
use polynet_kernels::conv::{QuantizedStores, QuantizedSum, QuantizedValue, Rounded};
use polynet_kernels::layout::View;

/// A result's views, as it is and as bytes, and what one is worth in the latter.
struct Store {
    floats: Option<Vec<View>>,
    bytes: Option<(Vec<View>, Vec<f32>)>,
    relu: bool,
}

impl Store {
    fn of(store: &ByteStore, (views, byte_steps): (&[View], &[f32])) -> Self {
        let steps = |ids: &[usize]| ids.iter().map(|&id| byte_steps[id]).collect();
        Self {
            floats: store.floats.as_ref().map(|ids| of(views, ids)),
            bytes: store.bytes.as_ref().map(|ids| (of(views, ids), steps(ids))),
            relu: store.relu,
        }
    }

    fn value(&self) -> QuantizedValue<'_> {
        QuantizedValue {
            floats: self.floats.as_deref(),
            bytes: (self.bytes.as_ref()).map(|(to, steps)| Rounded { to, steps }),
            relu: self.relu,
        }
    }
}

/// Makes a step whose convolution reads maps of bytes, by what convolves; of all buffers there are the views, and what
/// one is worth in those of bytes.
pub(super) fn convolve(
    step: &Step,
    (views, byte_steps): (&[View], &[f32]),
    run: impl FnOnce(&[View], QuantizedStores<'_>),
) {
    let Step::QuantizedConv {
        inputs, value, sum, ..
    } = step
    else {
        unreachable!("a quantized convolution");
    };
    let value = value
        .as_ref()
        .map(|value| Store::of(value, (views, byte_steps)));
    let sum = sum.as_ref().map(|sum| {
        let to = Store::of(&sum.to, (views, byte_steps));
        (of(views, &sum.addend), sum.scale, to)
    });
    let stores = QuantizedStores {
        value: value.as_ref().map(Store::value),
        sum: sum.as_ref().map(|(addend, scale, to)| QuantizedSum {
            addend,
            scale: *scale,
            to: to.value(),
        }),
    };
    run(&of(views, inputs), stores);
}

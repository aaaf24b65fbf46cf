//! Between the host's memory and the device's.

use burn_tensor::{Device, Tensor, TensorData, Transaction};

/// A tensor of the host's values.
pub(super) fn on_device<const D: usize>(
    values: impl Into<Vec<f32>>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.into(), shape), device)
}

/// Tensors on their way to the host's memory, all read at once: the device is waited for once.
#[derive(Default)]
pub(super) struct Readout(Transaction);

impl Readout {
    /// Adds a tensor.
    pub(super) fn and<const D: usize>(self, tensor: Tensor<D>) -> Self {
        Self(self.0.register(tensor))
    }

    /// The elements of the tensors, in the order in which they were added.
    pub(super) fn read(self) -> impl Iterator<Item = Vec<f32>> {
        let found = self.0.execute().into_iter();
        found.map(|data| {
            let data = data.convert::<f32>();
            data.try_into_vec().expect("the data was converted to f32")
        })
    }
}

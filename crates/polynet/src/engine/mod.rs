//! Where a network is computed: by [our kernels](crate::cpu) on the processor, or on a GPU.

mod device;
mod predictor;
mod training;

pub use device::{Device, DeviceError};
#[cfg(feature = "gpu")]
pub use device::{Gpu, NoGpu};
pub use predictor::{Predictor};
pub use training::TrainingEngine;

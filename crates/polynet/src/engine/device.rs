//! Devices by name.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "gpu")]
pub use crate::gpu::{Gpu, NoGpu};

/// A device that this build can open, chosen at run time (`--device`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor, on all its cores.
    #[default]
    Cpu,
    /// A GPU.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
}

impl Device {
    /// The names that this build accepts.
    fn names() -> Vec<&'static str> {
        let gpus: &[&str] = &[
            #[cfg(feature = "gpu")]
            "gpu[:N]",
            #[cfg(feature = "cuda")]
            "cuda[:N]",
        ];
        [&["cpu"], gpus].concat()
    }

    /// The device of this process where a launcher has started one for each device of a machine: the
    /// GPU as many after the named one as the process has before it on its machine.
    #[must_use]
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
    pub fn of_local_rank(self, rank: usize) -> Self {
        match self {
            Self::Cpu => self,
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => Self::Gpu(gpu.after(rank)),
        }
    }

    /// Whether its training steps let the parts of a batch share their batch-norm statistics
    /// ([`TrainingEngine::synchronised_gradients`](super::TrainingEngine::synchronised_gradients)).
    pub fn shares_statistics(self) -> bool {
        self == Self::Cpu
    }

    /// Whether its training steps compute in `bf16`.
    pub fn trains_in_bf16(self) -> bool {
        match self {
            Self::Cpu => true,
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.has_bf16(),
        }
    }

    /// The device, if this machine has it.
    ///
    /// # Errors
    /// If it has not.
    pub fn found(self) -> Result<Self, DeviceError> {
        #[cfg(feature = "gpu")]
        if let Self::Gpu(gpu) = self {
            gpu.find()?;
        }
        Ok(self)
    }
}

/// Why a device cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The name is no device of this build.
    #[error(
        "unknown device `{name}`: this build has {}; GPUs need a build with `--features gpu` or \
         `--features cuda`",
        Device::names().join(", ")
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// The machine has no such GPU.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    NoGpu(#[from] NoGpu),
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        if name == "cpu" {
            return Ok(Self::Cpu);
        }
        #[cfg(feature = "gpu")]
        if let Some(gpu) = Gpu::named(name) {
            return Ok(Self::Gpu(gpu));
        }
        let name = name.to_owned();
        Err(DeviceError::Unknown { name })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_and_parse() {
        assert_eq!("cpu".parse::<Device>(), Ok(Device::Cpu));
        assert_eq!(Device::Cpu.to_string(), "cpu");
        let error = "tpu".parse::<Device>().unwrap_err().to_string();
        assert!(error.contains("unknown device `tpu`"), "{error}");
        assert!(error.contains("cpu"), "{error}");
    }
}

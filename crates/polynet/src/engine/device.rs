//! Devices by name.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "gpu")]
pub use crate::gpu::Gpu;

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
    pub fn of_local_rank(self, _rank: usize) -> Self {
        match self {
            Self::Cpu => self,
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => Self::Gpu(gpu.after(_rank)),
        }
    }

    /// Whether its training steps let the parts of a batch share their batch-norm statistics
    /// ([`TrainingEngine::synchronised_gradients`](super::TrainingEngine::synchronised_gradients)).
    pub fn shares_statistics(self) -> bool {
        self == Self::Cpu
    }

    /// Whether its training steps compute in `bf16`.
    pub fn trains_in_bf16(self) -> bool {
        self != Self::Cpu
    }
}

/// The name is no device of this build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown device `{name}`: this build has {}; GPUs need a build with `--features gpu` or \
     `--features cuda`",
    Device::names().join(", ")
)]
pub struct UnknownDevice {
    name: String,
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        if name == "cpu" {
            return Ok(Self::Cpu);
        }
        #[cfg(feature = "gpu")]
        if let Some(gpu) = Gpu::named(name) {
            return Ok(Self::Gpu(gpu));
        }
        let name = name.to_owned();
        Err(UnknownDevice { name })
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

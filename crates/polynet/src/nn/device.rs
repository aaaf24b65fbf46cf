//! Devices by name.

use burn::tensor::Device;
use std::fmt;
use std::str::FromStr;

/// A device that this build can open, chosen at run time (`--device`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceName {
    /// The processor, on all its cores.
    #[default]
    Cpu,
    /// A GPU through the system's graphics interface (Vulkan, Metal, DirectX 12).
    #[cfg(any(feature = "wgpu", feature = "vulkan"))]
    Wgpu,
    /// A GPU through Vulkan.
    #[cfg(feature = "vulkan")]
    Vulkan,
    /// The NVIDIA GPU with this number.
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

impl DeviceName {
    /// The names that this build accepts.
    pub const NAMES: &'static [&'static str] = &[
        "cpu",
        #[cfg(any(feature = "wgpu", feature = "vulkan"))]
        "wgpu",
        #[cfg(feature = "vulkan")]
        "vulkan",
        #[cfg(feature = "cuda")]
        "cuda[:N]",
    ];

    /// The device of this process where a launcher has started one for each device of a machine: the
    /// GPU as many after the named one as the process has before it on its machine.
    #[must_use]
    pub fn of_local_rank(self) -> Self {
        match self {
            Self::Cpu => self,
            #[cfg(any(feature = "wgpu", feature = "vulkan"))]
            Self::Wgpu => self,
            #[cfg(feature = "vulkan")]
            Self::Vulkan => self,
            #[cfg(feature = "cuda")]
            Self::Cuda(first) => {
                Self::Cuda(first + crate::distributed::local_rank().unwrap_or_default())
            }
        }
    }

    /// Whether its training steps let the parts of a batch share their batch-norm statistics
    /// ([`Network::synchronised_gradients`](super::Network::synchronised_gradients)).
    pub fn shares_statistics(self) -> bool {
        self == Self::Cpu
    }

    /// The device.
    pub fn open(self) -> Device {
        match self {
            Self::Cpu => Device::flex(),
            #[cfg(any(feature = "wgpu", feature = "vulkan"))]
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Device::cuda(index),
        }
    }
}

/// The name is no device of this build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown device `{name}`: this build has {}; GPUs need a build with `--features vulkan` or \
     `--features cuda`",
    DeviceName::NAMES.join(", ")
)]
pub struct UnknownDevice {
    name: String,
}

impl FromStr for DeviceName {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice {
            name: name.to_owned(),
        };
        match name {
            "cpu" => Ok(Self::Cpu),
            #[cfg(any(feature = "wgpu", feature = "vulkan"))]
            "wgpu" => Ok(Self::Wgpu),
            #[cfg(feature = "vulkan")]
            "vulkan" => Ok(Self::Vulkan),
            #[cfg(feature = "cuda")]
            "cuda" => Ok(Self::Cuda(0)),
            #[cfg(feature = "cuda")]
            _ if name.starts_with("cuda:") => {
                name[5..].parse().map(Self::Cuda).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(any(feature = "wgpu", feature = "vulkan"))]
            Self::Wgpu => f.write_str("wgpu"),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => f.write_str("vulkan"),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_and_parse() {
        assert_eq!("cpu".parse::<DeviceName>(), Ok(DeviceName::Cpu));
        assert_eq!(DeviceName::Cpu.to_string(), "cpu");
        let error = "gpu".parse::<DeviceName>().unwrap_err().to_string();
        assert!(error.contains("unknown device `gpu`"), "{error}");
        assert!(error.contains("cpu"), "{error}");
    }
}

//! GPUs by name.

use burn_tensor::{DType, Device, DeviceType};
use std::fmt;

/// A GPU by the interface that reaches it and its number there.
///
/// `gpu` and `gpu:N` are reached through Vulkan, or Metal in a build with the feature `metal`; `vulkan`
/// and `wgpu` are other spellings of it. `cuda` and `cuda:N` are NVIDIA's, in a build with the feature
/// `cuda`. Through Vulkan, discrete GPUs are counted first, then integrated and virtual ones, then
/// software drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    interface: Interface,
    index: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    Graphics,
    #[cfg(feature = "cuda")]
    Cuda,
}

impl Interface {
    const fn name(self) -> &'static str {
        match self {
            Self::Graphics => "gpu",
            #[cfg(feature = "cuda")]
            Self::Cuda => "cuda",
        }
    }

    fn device_type(self) -> DeviceType {
        match self {
            #[cfg(feature = "metal")]
            Self::Graphics => DeviceType::Metal,
            #[cfg(not(feature = "metal"))]
            Self::Graphics => DeviceType::Vulkan,
            #[cfg(feature = "cuda")]
            Self::Cuda => DeviceType::Cuda,
        }
    }

    /// What must be installed for its GPUs to be found.
    fn needs(self) -> &'static str {
        match self {
            Self::Graphics if cfg!(feature = "metal") => "a GPU that Metal supports",
            Self::Graphics => {
                "libvulkan and the GPU's Vulkan driver (`vulkaninfo --summary` lists what they reach)"
            }
            #[cfg(feature = "cuda")]
            Self::Cuda => "NVIDIA's driver (`nvidia-smi` lists what it reaches)",
        }
    }
}

impl Gpu {
    /// The GPU of that name, if it is a name of this build. Whether the machine has it is not asked.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let (interface, index) = match name.split_once(':') {
            Some((interface, index)) => (interface, index.parse().ok()?),
            None => (name, 0),
        };
        let interface = match interface {
            "gpu" | "vulkan" | "wgpu" => Interface::Graphics,
            #[cfg(feature = "cuda")]
            "cuda" => Interface::Cuda,
            _ => return None,
        };
        Some(Self { interface, index })
    }

    /// The GPU that is as many after this one.
    pub(crate) fn after(self, count: usize) -> Self {
        let index = self.index + count;
        Self { index, ..self }
    }

    /// Finds the GPU on this machine.
    ///
    /// # Errors
    /// If it is not there.
    pub(crate) fn find(self) -> Result<Device, NoGpu> {
        // Asking Burn for a device that is not there panics, so look what there is first.
        let devices = Device::enumerate(self.interface.device_type());
        devices.get(self.index).cloned().ok_or(NoGpu {
            gpu: self,
            found: devices.len(),
        })
    }

    /// The GPU, which must be there.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn open(self) -> Device {
        self.find().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether it computes in `bf16`.
    pub(crate) fn has_bf16(self) -> bool {
        self.find()
            .is_ok_and(|device| device.supports_dtype(DType::BF16))
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.interface.name(), self.index)
    }
}

/// The machine has no such GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoGpu {
    gpu: Gpu,
    /// GPUs that its interface reaches.
    found: usize,
}

impl fmt::Display for NoGpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gpu, found } = self;
        let interface = gpu.interface;
        match found {
            0 => write!(
                f,
                "there is no GPU for `{gpu}`: it needs {}; `cpu` computes on the processor",
                interface.needs()
            ),
            _ => write!(
                f,
                "there is no `{gpu}`: this machine has `{name}:0` to `{name}:{}`",
                found - 1,
                name = interface.name()
            ),
        }
    }
}

impl std::error::Error for NoGpu {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_and_parse() {
        let gpu = |name| Gpu::named(name).map(|gpu| gpu.to_string());
        for (name, expected) in [
            ("gpu", Some("gpu:0")),
            ("gpu:2", Some("gpu:2")),
            ("vulkan", Some("gpu:0")),
            ("wgpu:1", Some("gpu:1")),
            ("gpu:", None),
            ("gpu:x", None),
            ("gpus", None),
        ] {
            assert_eq!(gpu(name).as_deref(), expected, "{name}");
        }
        assert_eq!(gpu("cuda:3").is_some(), cfg!(feature = "cuda"));
        assert_eq!(
            Gpu::named("gpu:1").map(|gpu| gpu.after(2)),
            Gpu::named("gpu:3")
        );
    }

    #[test]
    fn a_gpu_that_is_not_there_says_which_are() {
        let gpu = Gpu::named("gpu:9").unwrap();
        let message = |found| NoGpu { gpu, found }.to_string();
        assert_eq!(
            message(2),
            "there is no `gpu:9`: this machine has `gpu:0` to `gpu:1`"
        );
        let none = message(0);
        assert!(none.contains("`gpu:9`") && none.contains("`cpu`"), "{none}");
    }
}

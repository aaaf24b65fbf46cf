//! Where and how a model predicts: arguments that several commands have.

use anyhow::{Result, ensure};
use polynet::distributed::local_rank;
use polynet::{CompileOptions, Device, Isa, Model, ModelOptions, Precision};
use std::fmt;
use std::path::Path;

#[derive(clap::Args)]
pub(crate) struct Compute {
    /// Where to compute
    #[arg(long, default_value_t)]
    device: Device,
    #[command(flatten)]
    kernels: Kernels,
}

/// The processor's kernels.
#[derive(clap::Args)]
pub(crate) struct Kernels {
    /// Numbers of the feature maps, on the processor: f32, or bf16, which is faster where the
    /// processor multiplies such numbers (avx512bf16)
    #[arg(long, default_value_t)]
    precision: Precision,
    /// Instruction set of the processor's kernels; the best that it has by default
    #[arg(long)]
    isa: Option<Isa>,
}

impl Kernels {
    pub(crate) fn options(&self) -> CompileOptions {
        CompileOptions {
            isa: self.isa.unwrap_or_else(Isa::best),
            precision: self.precision,
        }
    }
}

impl Compute {
    /// Opens a model folder for prediction.
    pub(crate) fn open(&self, model: &Path) -> Result<Model> {
        Ok(Model::open_with(model, self.options()?)?)
    }

    /// Opens the model that comes with the program.
    pub(crate) fn open_pretrained(&self) -> Result<Model> {
        Ok(Model::pretrained(self.options()?)?)
    }

    /// The device, this rank's own where several share a machine, and its options.
    pub(crate) fn options(&self) -> Result<ModelOptions> {
        let compile = self.kernels.options();
        ensure!(
            self.device == Device::Cpu || compile == CompileOptions::default(),
            "--precision and --isa are for `--device cpu`; leave them out on {}",
            self.device
        );
        let rank = local_rank().unwrap_or_default();
        Ok(ModelOptions {
            device: self.device.of_local_rank(rank),
            compile,
            threads: None,
        })
    }
}

/// What the scores of a model follow from besides its weights.
impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.device, self.kernels.options())
    }
}

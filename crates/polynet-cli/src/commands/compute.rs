//! Where and how a model predicts: arguments that several commands have.

use anyhow::{Result, ensure};
use polynet::distributed::local_rank;
use polynet::{CompileOptions, Device, Isa, Model, ModelOptions, PrecisionChoice};
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
    /// Numbers of the feature maps, on the processor: f32, bf16, own (8 bits of a quantized model, else
    /// f32), or auto, which is 8 bits of a quantized model, and bf16 on processors that are known to be
    /// faster in it
    #[arg(long, default_value_t)]
    precision: PrecisionChoice,
    /// Instruction set of the processor's kernels; the best that it has by default
    #[arg(long)]
    isa: Option<Isa>,
}

impl Kernels {
    pub(crate) fn options(&self) -> CompileOptions {
        CompileOptions::new(self.isa, self.precision)
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

    /// Why the precision is what it is, on the processor, of a model that is quantized or not.
    pub(crate) fn reason(&self, is_quantized: bool) -> Option<&'static str> {
        let Kernels { precision, isa } = self.kernels;
        let reason = precision.reason(isa.unwrap_or_else(Isa::best), is_quantized);
        (self.device == Device::Cpu).then_some(reason)
    }

    /// The device, this rank's own where several share a machine, and its options.
    pub(crate) fn options(&self) -> Result<ModelOptions> {
        let Kernels { precision, isa } = self.kernels;
        ensure!(
            self.device == Device::Cpu || (precision == PrecisionChoice::Auto && isa.is_none()),
            "--precision and --isa are for `--device cpu`; leave them out on {}",
            self.device
        );
        let rank = local_rank().unwrap_or_default();
        Ok(ModelOptions {
            device: self.device.of_local_rank(rank),
            compile: self.kernels.options(),
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

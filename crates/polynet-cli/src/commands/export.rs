//! `polynet export DIR --onnx FILE --pytorch FILE --names LIBRARY --half DIR`

use crate::output;
use anyhow::Result;
use clap::ValueEnum;
use polynet::export::{BatchNormForm, OnnxInput, OnnxOptions, write_onnx, write_pytorch};
use polynet::{Library, ModelFolder};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a model in the format of another program
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The model folder
    model: PathBuf,
    /// Write ONNX, opset 17
    #[arg(long, value_name = "FILE", required_unless_present_any = ["pytorch", "half"])]
    onnx: Option<PathBuf>,
    #[command(flatten)]
    form: OnnxForm,
    /// Write a state dict for PyTorch: .safetensors, or by any other ending PyTorch's own format
    #[arg(long, value_name = "FILE", requires = "names")]
    pytorch: Option<PathBuf>,
    /// The library by whose names
    #[arg(long, value_enum, value_name = "LIBRARY", requires = "pytorch")]
    names: Option<Names>,
    /// Write a model folder whose weights are in half precision: half as large, for prediction
    #[arg(long, value_name = "DIR")]
    half: Option<PathBuf>,
}

#[derive(clap::Args)]
struct OnnxForm {
    /// Take bytes of red, green and blue in this order and normalise them in the graph; the pictures must
    /// be resized and cropped already
    #[arg(
        long,
        value_name = "ORDER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "nhwc",
        requires = "onnx"
    )]
    with_preprocessing: Option<PixelOrder>,
    /// What becomes of batch norm
    #[arg(long, value_enum, default_value = "folded")]
    batch_norm: BatchNorm,
    /// Under which terms the weights may be used, for the file's metadata
    #[arg(long, value_name = "TEXT", requires = "onnx")]
    license: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PixelOrder {
    /// [batch, height, width, 3], as pictures lie in memory
    Nhwc,
    /// [batch, 3, height, width]
    Nchw,
}

#[derive(Clone, Copy, ValueEnum)]
enum BatchNorm {
    /// A part of the convolutions' weights, for prediction
    Folded,
    /// Operators with tensors of their own, for training
    Kept,
}

#[derive(Clone, Copy, ValueEnum)]
enum Names {
    /// pretrainedmodels: PolyNet, Inception-v4, Inception-ResNet-v2
    #[value(alias = "pretrainedmodels")]
    Cadene,
    /// timm: Inception-v4, Inception-ResNet-v2, ResNets
    Timm,
    /// torchvision: post-activation ResNets
    Torchvision,
}

impl OnnxForm {
    fn options(&self) -> OnnxOptions {
        OnnxOptions {
            batch_norm: match self.batch_norm {
                BatchNorm::Folded => BatchNormForm::Folded,
                BatchNorm::Kept => BatchNormForm::Kept,
            },
            input: match self.with_preprocessing {
                None => OnnxInput::Prepared,
                Some(PixelOrder::Nhwc) => OnnxInput::BytesNhwc,
                Some(PixelOrder::Nchw) => OnnxInput::BytesNchw,
            },
            license: self.license.clone(),
        }
    }
}

impl Names {
    fn library(self) -> Library {
        match self {
            Self::Cadene => Library::Pretrainedmodels,
            Self::Timm => Library::Timm,
            Self::Torchvision => Library::Torchvision,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let model = ModelFolder::open(&arguments.model)?;
    if let Some(path) = &arguments.onnx {
        write_onnx(path, &model, &arguments.form.options())?;
        output::line(path.display())?;
    }
    if let (Some(path), Some(names)) = (&arguments.pytorch, arguments.names) {
        let naming = names.library().naming(model.architecture.family)?;
        write_pytorch(path, &model, naming)?;
        let names = naming.implementation();
        output::line(format_args!("{}: in the names of {names}", path.display()))?;
    }
    if let Some(folder) = &arguments.half {
        model.save_half(folder)?;
        output::line(folder.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

//! Names of tensors in public weight files.
//!
//! A public implementation names its tensors in its own way. For each there is a rule that gives
//! its name of every tensor of an architecture, or says what the implementation lacks:
//!
//! | here | there | weights of |
//! |---|---|---|
//! | `stage_a.3.G.1.conv` | `stage_a.3.blocks.1.conv2d.conv` | pretrainedmodels `polynet` |
//! | `stage_b.0.F.branch1.2.conv` | `features.11.branch1.2.conv` | timm `inception_v4`, pretrainedmodels `inceptionv4` |
//! | `stage_b.0.F.1.conv` | `repeat_1.0.conv2d` | timm `inception_resnet_v2`, pretrainedmodels `inceptionresnetv2` |
//! | `stage_3.0.F.2.conv` | `stages.2.blocks.1.conv2` | timm `resnetv2_50`, … |
//! | `stage_3.0.F.1.conv` | `layer3.1.conv2` | torchvision `resnet50`, … |

mod inception;
mod polynet;
mod resnet;

use super::WeightError;
use crate::arch::{Architecture, Family, Graph};
use crate::data::{Interpolation, Preprocessing, Resize};

pub use polynet::port_names;

/// A public implementation whose weight files name tensors in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Naming {
    /// `polynet` of pretrainedmodels.
    Polynet,
    /// `inception_v4` of timm, and `inceptionv4` of pretrainedmodels.
    InceptionV4,
    /// `inception_resnet_v2` of timm.
    InceptionResnetV2,
    /// `inceptionresnetv2` of pretrainedmodels: as timm's but for the classifier.
    PretrainedInceptionResnetV2,
    /// `resnetv2_50` and so on of timm: pre-activation with batch norm.
    TimmResnetV2,
    /// `resnet50` and so on of torchvision and timm: post-activation.
    TorchvisionResnet,
}

/// A library of public implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Library {
    /// Cadene's `pretrainedmodels`.
    Pretrainedmodels,
    /// `timm`.
    Timm,
    /// `torchvision`.
    Torchvision,
}

impl Library {
    /// Its name in PyPI.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrainedmodels => "pretrainedmodels",
            Self::Timm => "timm",
            Self::Torchvision => "torchvision",
        }
    }

    /// The implementation that it has of a family.
    ///
    /// # Errors
    /// If it has none.
    pub fn naming(self, family: Family) -> Result<Naming, WeightError> {
        let mut namings = Naming::of(family).iter().copied();
        let found = namings.find(|naming| naming.libraries().contains(&self));
        found.ok_or_else(|| {
            let (here, family) = (self.name(), family.name());
            WeightError::NoPort(format!("{here} has no networks of family `{family}`"))
        })
    }
}

impl Naming {
    /// The implementations that may have networks of a family.
    pub fn of(family: Family) -> &'static [Self] {
        match family {
            Family::Imagenet => &[Self::Polynet],
            Family::Small | Family::Tiny => &[],
            Family::Resnet => &[Self::TimmResnetV2],
            Family::ResnetV1 => &[Self::TorchvisionResnet],
            Family::InceptionV4 => &[Self::InceptionV4],
            Family::InceptionResnetV2 => {
                &[Self::InceptionResnetV2, Self::PretrainedInceptionResnetV2]
            }
        }
    }

    /// The libraries that name tensors so.
    pub fn libraries(self) -> &'static [Library] {
        match self {
            Self::Polynet | Self::PretrainedInceptionResnetV2 => &[Library::Pretrainedmodels],
            Self::InceptionV4 => &[Library::Timm, Library::Pretrainedmodels],
            Self::InceptionResnetV2 | Self::TimmResnetV2 => &[Library::Timm],
            Self::TorchvisionResnet => &[Library::Torchvision, Library::Timm],
        }
    }

    /// The implementation, for messages.
    pub fn implementation(self) -> &'static str {
        match self {
            Self::Polynet => "pretrainedmodels `polynet`",
            Self::InceptionV4 => "timm `inception_v4`",
            Self::InceptionResnetV2 => "timm `inception_resnet_v2`",
            Self::PretrainedInceptionResnetV2 => "pretrainedmodels `inceptionresnetv2`",
            Self::TimmResnetV2 => "timm `resnetv2`",
            Self::TorchvisionResnet => "torchvision `resnet`",
        }
    }

    /// The implementation's name of every tensor, in the order of [`Graph::tensors`].
    ///
    /// # Errors
    /// If the architecture has modules that the implementation lacks.
    pub fn names(
        self,
        architecture: &Architecture,
        graph: &Graph,
    ) -> Result<Vec<String>, WeightError> {
        if !Self::of(architecture.family).contains(&self) {
            let (family, here) = (architecture.family.name(), self.implementation());
            let message = format!("{here} has no networks of family `{family}`");
            return Err(WeightError::NoPort(message));
        }
        let rule: fn(&Architecture, &[&str]) -> Option<String> = match self {
            Self::Polynet => return port_names(architecture, graph),
            Self::InceptionV4 => inception::v4,
            Self::InceptionResnetV2 => inception::resnet_v2,
            Self::PretrainedInceptionResnetV2 => inception::pretrained_resnet_v2,
            Self::TimmResnetV2 => resnet::timm_v2,
            Self::TorchvisionResnet => resnet::torchvision,
        };
        self.check_modules(architecture)?;
        graph
            .tensors()
            .map(|tensor| {
                let (layer, field) = tensor.name.rsplit_once('.').unwrap_or((&tensor.name, ""));
                let parts: Vec<&str> = layer.split('.').collect();
                let name = rule(architecture, &parts).ok_or_else(|| {
                    let here = self.implementation();
                    WeightError::NoPort(format!("{here} has no layer for `{layer}`"))
                })?;
                Ok(format!("{name}.{field}"))
            })
            .collect()
    }

    /// All but PolyNet's port have one kind of module.
    fn check_modules(self, architecture: &Architecture) -> Result<(), WeightError> {
        let expected = match self {
            Self::InceptionV4 => "F",
            _ => "I + F",
        };
        for stage in &architecture.stages {
            for (position, module) in stage.modules.iter().enumerate() {
                let found = module.polynomial.to_string();
                if found != expected {
                    let (stage, here) = (stage.name(), self.implementation());
                    return Err(WeightError::NoPort(format!(
                        "module `{stage}.{position}` is {found}; {here} has {expected} alone"
                    )));
                }
            }
        }
        Ok(())
    }

    /// How an image is prepared for the implementation's public ImageNet weights.
    pub fn preprocessing(self, input_size: usize) -> Preprocessing {
        let standard = Preprocessing::imagenet(input_size);
        // The share of the shorter side that the crop keeps, in hundredths of a percent.
        let shorter_side = |kept: usize| Resize::ShorterSide {
            size: input_size * 10_000 / kept,
        };
        let bicubic = |kept| Preprocessing {
            resize: shorter_side(kept),
            interpolation: Interpolation::Bicubic,
            mean: [0.5; 3],
            std: [0.5; 3],
            ..standard.clone()
        };
        match self {
            Self::Polynet => standard,
            Self::InceptionV4 => bicubic(8750),
            Self::InceptionResnetV2 | Self::PretrainedInceptionResnetV2 => bicubic(8975),
            Self::TimmResnetV2 => bicubic(9500),
            Self::TorchvisionResnet => Preprocessing {
                resize: shorter_side(8750),
                ..standard
            },
        }
    }

    /// Whether its weight files may have one class more, a background before all others, which
    /// stands for no class of ImageNet.
    pub fn may_have_background(self) -> bool {
        matches!(
            self,
            Self::InceptionV4 | Self::InceptionResnetV2 | Self::PretrainedInceptionResnetV2
        )
    }
}

/// `bn` for `norm`; a convolution keeps its name.
fn bn(kind: &str) -> &str {
    match kind {
        "norm" => "bn",
        other => other,
    }
}

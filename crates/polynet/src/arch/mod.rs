//! Architectures as plain data: what a network is, before any tensor exists.
//!
//! A network is written in the algebra's language as clauses separated by `;`: a preset to start
//! from, stages, and settings.
//!
//! ```
//! use polynet::arch::Architecture;
//! let text = "A: 2-way x10; B: (poly-3 -> 2-way) x10; C: (poly-3 -> 2-way) x5; \
//!             input = 331; sharing = release; scale = release";
//! let network: Architecture = text.parse()?;
//! assert_eq!(network.cost()?.parameters.total(), 95_366_600);
//! // The same, and a variant of it, from a preset.
//! let preset: Architecture = "very-deep-polynet".parse()?;
//! assert_eq!(network.graph()?, preset.graph()?);
//! let pets: Architecture = "very-deep-polynet; classes = 37".parse()?;
//! assert_eq!(pets.num_classes, 37);
//! # Ok::<(), polynet::arch::ArchError>(())
//! ```
//!
//! | setting | value | default |
//! |---|---|---|
//! | `family` | `imagenet`, `small`, `tiny`, `resnet`, `resnet-v1`, `inception-v4`, `inception-resnet-v2` ([`Family`]) | `imagenet` |
//! | `width` | multiplier of every channel count | 1 |
//! | `block-width` | multiplier of the channels within blocks, between their ends | `width` |
//! | `input` | pixels of the square input | 299; small and tiny 32, ResNets 224 |
//! | `classes` | number of classes | 1000; small and tiny 10 |
//! | `sharing` | `full` (paper's text), `release` (released model) ([`Sharing`]) | `full` |
//! | `scale` | a number, `"0.3..0.225"`, `release` or `slim` ([`ResidualScale`]) | 0.3; ResNets 1, `inception-resnet-v2` `slim` |
//! | `dropout` | probability before the classifier | 0.2; ResNets 0 |

pub mod cell;
pub mod claims;
pub mod cost;
mod family;
pub mod graph;
pub mod presets;
pub mod published;
mod spec;

pub use cell::{Activation, Cell, ConvLayer, Normalization, Padding};
pub use cost::Cost;
pub use family::{Family, Width};
pub use graph::Graph;

use polynet_algebra::Module;

/// How the evaluations of one block in a module share parameters (FACTS: paper §3.1 against the
/// released model).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// The paper's text: the same letter means the same parameters, those of batch norm included;
    /// running statistics, which are no parameters, are every evaluation's own.
    Full,
    /// The released model: inner convolutions are shared; every evaluation has batch norms and a
    /// last 1×1 convolution of its own, and passes `relu(F(x))` on to the next order.
    Release,
}

/// The factor of the terms that a module adds to the identity: `I + βF + βG` (paper §4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResidualScale {
    /// The same β in every module.
    Constant(f64),
    /// Linear from the first module to the last, written `"0.3..0.225"`: what prediction takes after
    /// training with stochastic paths (§4), β times the chance that a path survives.
    Linear {
        /// In the first module.
        first: f64,
        /// In the last module.
        last: f64,
    },
    /// The released model's schedule: module `i` of `n` has `1 − 0.3·i/(n − 1)`, the chance that a
    /// stochastic path survives.
    Release,
    /// The public Inception-ResNet-v2's (TensorFlow-Slim): 0.17, 0.10 and 0.20 in stages A, B and
    /// C, and 1 in the last module of the network. Only for families of three stages.
    Slim,
}

/// A stage: what stands before its modules, the block they are polynomials of, and the modules.
#[derive(Clone, Debug)]
pub struct Stage {
    /// `A`, `B`, `C`, or `1` … `4`.
    pub label: String,
    /// The modules as text, repetitions folded.
    pub text: String,
    /// The reduction (or first unit) before the modules.
    pub entry: Option<Cell>,
    /// The block that the letters stand for; every letter has parameters of its own.
    pub block: Cell,
    /// The modules in order.
    pub modules: Vec<Module>,
    previous: Option<String>,
}

impl Stage {
    /// `stage_a`: how names of tensors begin.
    pub fn name(&self) -> String {
        format!("stage_{}", self.label.to_lowercase())
    }

    /// The name of what stands before the modules: `reduction_a` stands between stages A and B.
    pub fn entry_name(&self) -> String {
        match &self.previous {
            Some(previous) => format!("reduction_{}", previous.to_lowercase()),
            None => format!("{}_entry", self.name()),
        }
    }
}

/// A whole network; see the [module documentation](self).
#[derive(Clone, Debug)]
pub struct Architecture {
    /// Stem, blocks and reductions.
    pub family: Family,
    /// Multiplier of the channel counts.
    pub width: Width,
    /// Multiplier of the channel counts within blocks, between their ends.
    pub block_width: Width,
    /// Height and width of the input in pixels.
    pub input_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Sharing between evaluations of one block.
    pub sharing: Sharing,
    /// Factor of the residual terms.
    pub residual_scale: ResidualScale,
    /// Dropout probability before the classifier.
    pub dropout: f64,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

impl Architecture {
    /// The network as operations on named tensors.
    ///
    /// # Errors
    /// If the input is too small for the network.
    pub fn graph(&self) -> Result<Graph, ArchError> {
        Graph::new(self)
    }

    /// Parameters, multiply-accumulates and memory.
    ///
    /// # Errors
    /// If the input is too small for the network.
    pub fn cost(&self) -> Result<Cost, ArchError> {
        Ok(Cost::of(&self.graph()?))
    }

    /// Number of modules in all stages.
    pub fn num_modules(&self) -> usize {
        self.stages.iter().map(|stage| stage.modules.len()).sum()
    }

    /// The residual scale of every module, through all stages.
    pub fn residual_scales(&self) -> Vec<f64> {
        let count = self.num_modules();
        let last = count.saturating_sub(1);
        let stages = self.stages.iter().enumerate();
        let stage_of_module = stages.flat_map(|(stage, s)| s.modules.iter().map(move |_| stage));
        stage_of_module
            .enumerate()
            .map(|(index, stage)| match self.residual_scale {
                ResidualScale::Constant(scale) => scale,
                ResidualScale::Linear {
                    first: bottom,
                    last: top,
                } => bottom + (top - bottom) * index as f64 / last.max(1) as f64,
                ResidualScale::Release => 1.0 - 0.3 * index as f64 / last.max(1) as f64,
                ResidualScale::Slim if index == last => 1.0,
                ResidualScale::Slim => [0.17, 0.10, 0.20].get(stage).copied().unwrap_or(1.0),
            })
            .collect()
    }

    /// How the network predicts after it was trained with stochastic paths that are dropped with
    /// chances from 0 at the first module to `max_drop` at the last (paper §4): each path is scaled
    /// by the chance that it survives. The released model is the special case of scale 1 and 0.3.
    ///
    /// `None` if the residual scale varies already: it would hold the chances of survival twice.
    pub fn with_survival(&self, max_drop: f64) -> Option<Self> {
        let ResidualScale::Constant(scale) = self.residual_scale else {
            return None;
        };
        // 0.3 · 0.75 is 0.22499999999999998, which nobody wants to read.
        let rounded = |value: f64| (value * 1e12).round() / 1e12;
        Some(Self {
            residual_scale: ResidualScale::Linear {
                first: scale,
                last: rounded(scale * (1.0 - max_drop)),
            },
            ..self.clone()
        })
    }

    /// The same network for inputs of `input_size` pixels.
    #[must_use]
    pub fn with_input_size(mut self, input_size: usize) -> Self {
        self.input_size = input_size;
        self
    }

    /// The same network with another number of classes.
    #[must_use]
    pub fn with_num_classes(mut self, num_classes: usize) -> Self {
        self.num_classes = num_classes;
        self
    }
}

/// Why there is no such network.
#[derive(Debug, thiserror::Error)]
pub enum ArchError {
    /// The text is not a network; the error shows the place.
    #[error(transparent)]
    Spec(#[from] polynet_algebra::Error),
    /// The feature map is smaller than a window before the network's end.
    #[error(
        "an input of {input_size} px is too small: {place} has a {}x{} window over a {}x{} map; \
         give a larger input (setting `input`, or --size)",
        kernel_size[0], kernel_size[1], size[0], size[1]
    )]
    InputTooSmall {
        /// Pixels of the input.
        input_size: usize,
        /// Layer that does not fit.
        place: String,
        /// Its input map.
        size: [usize; 2],
        /// Its window.
        kernel_size: [usize; 2],
    },
}

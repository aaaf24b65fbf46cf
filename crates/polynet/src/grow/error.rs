//! Why a model can't grow into a network.

use crate::arch::ArchError;
use crate::params::WeightError;

/// Why a model can't grow into a network. Nothing is written where this is returned.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// Another family has other blocks.
    #[error(
        "the model is of the family `{from}`, not `{to}`, and every block differs between them; \
         write `family = {from}` or one of its presets"
    )]
    Family {
        /// The model's.
        from: &'static str,
        /// The larger network's.
        to: &'static str,
    },
    /// Growing adds modules and blocks, not channels.
    #[error(
        "the model has {setting} {from}, the larger network {to}: growing adds blocks and modules, \
         not channels; write `{setting} = {from}`"
    )]
    Width {
        /// `width` or `block-width`.
        setting: &'static str,
        /// The model's.
        from: f64,
        /// The larger network's.
        to: f64,
    },
    /// A stage would shrink.
    #[error(
        "stage {stage} has {from} modules, the larger network has {to}: a trained module would be \
         lost; give the stage at least {from}"
    )]
    FewerModules {
        /// The stage's label.
        stage: String,
        /// Modules of the model.
        from: usize,
        /// Modules of the larger network.
        to: usize,
    },
    /// A path of a trained module is missing.
    #[error(
        "module {module}, `{from}`, can't become {place}, `{to}`: the term `{term}` is missing or \
         occurs less often; growing only adds terms, so write a module that has all of `{from}`"
    )]
    MissingTerm {
        /// The trained module.
        module: String,
        /// Its polynomial.
        from: String,
        /// The nearest module of the larger network.
        place: String,
        /// Its polynomial.
        to: String,
        /// The term.
        term: String,
    },
    /// Tensors that are separate in the model are one in the larger network.
    #[error(
        "module {module}: block {block} has a `{tensor}` for each of its uses, and with \
         `sharing = full` there is room for one; write `sharing = release`"
    )]
    Sharing {
        /// The module of the larger network.
        module: String,
        /// The block's letter.
        block: String,
        /// The tensor of the larger network.
        tensor: String,
    },
    /// The model lacks a tensor that the larger network should take from it.
    #[error(
        "tensor {tensor}: expected the model's {from} with the shape {expected:?}, found {found}; \
         the model is not what its config.json says"
    )]
    Tensor {
        /// The larger network's tensor.
        tensor: String,
        /// The model's.
        from: String,
        /// The shape it should have.
        expected: Vec<usize>,
        /// What is there.
        found: String,
    },
    /// The function can't be kept.
    #[error("the function can't stay the same: module {module}: {reason}, or use --start random")]
    FunctionChanges {
        /// The module of the larger network where it first changes.
        module: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The function ought to be the same and is not.
    #[error(
        "the grown network should compute what the model computes and does not: its features \
         differ by up to {difference} (largest {largest}); nothing is written"
    )]
    Drift {
        /// Largest absolute difference of a feature.
        difference: f32,
        /// Largest absolute feature of the model.
        largest: f32,
    },
    /// Names and classes differ in number.
    #[error(
        "the larger network has {expected} classes, {found} names were given; write \
         `classes = {found}`, or give {expected} names"
    )]
    ClassNames {
        /// Classes of the larger network.
        expected: usize,
        /// Names.
        found: usize,
    },
    /// There is no such network.
    #[error(transparent)]
    Architecture(#[from] ArchError),
    /// A model folder can't be written.
    #[error(transparent)]
    Weights(#[from] WeightError),
}

//! What a training step gives.

/// The gradients of a batch's loss, and what comes with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// Mean loss of the batch.
    pub loss: f64,
    /// Logits of the batch, `[batch × classes]` in row-major order.
    pub logits: Vec<f32>,
    /// Gradients by tensor index; `None` for running statistics, for frozen parameters, and for
    /// parameters that only dropped paths use.
    pub tensors: Vec<Option<Vec<f32>>>,
    /// What each batch norm saw, in the order of evaluation; a shared one occurs repeatedly.
    pub statistics: Vec<NormStatistics>,
}

/// What a batch norm saw in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct NormStatistics {
    /// The batch norm, by its index in the graph.
    pub norm: usize,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Variance of each channel over `n − 1`, as running statistics take it.
    pub unbiased_var: Vec<f32>,
}

/// Who is shown each parameter's gradient, by tensor index, as soon as it is final.
pub type GradientObserver<'a> = dyn FnMut(usize, &[f32]) + Send + 'a;

//! What candidates may cost.

use super::rounds::fault;
use super::times::StepTimes;
use crate::arch::{Cost, Graph};
use crate::cpu::Memory;
use crate::step::{LossOptions, Paths, StepOptions};
use crate::study::{Job, StudyError};

/// Values that the optimizers keep for each parameter: momentum and one more.
const OPTIMIZER_SLOTS: usize = 2;

/// What a candidate may cost at most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Multiply-accumulates of an image.
    pub macs: Option<f64>,
    /// Trained parameters.
    pub parameters: Option<f64>,
    /// Planned memory of a training step, in MiB.
    pub memory_mib: Option<f64>,
    /// Milliseconds of a training step, measured.
    pub ms_per_step: Option<f64>,
}

impl Limits {
    /// Which limit a job goes beyond, and by what. What is quick to know is looked at first.
    pub(super) fn beyond(
        &self,
        job: &Job,
        times: &mut dyn StepTimes,
    ) -> Result<Option<String>, StudyError> {
        let told = |key, limit: Option<f64>, value: f64| {
            let limit = limit.filter(|limit| value > *limit)?;
            Some(format!("{key} = {limit}, and it has {value:.1}"))
        };
        let network = &job.network;
        let graph = network.graph();
        let graph = graph.map_err(|error| fault(format!("`{network}`: {error}")))?;
        let cost = Cost::of(&graph);
        let quick = told("macs", self.macs, cost.macs as f64)
            .or_else(|| {
                told(
                    "parameters",
                    self.parameters,
                    cost.parameters.total() as f64,
                )
            })
            .or_else(|| {
                let limit = self.memory_mib?;
                told("memory_mib", Some(limit), memory_mib(job, &graph))
            });
        if quick.is_some() || self.ms_per_step.is_none() {
            return Ok(quick);
        }
        Ok(told(
            "ms_per_step",
            self.ms_per_step,
            times.ms_per_step(job)?,
        ))
    }
}

/// Planned peak of a training step.
fn memory_mib(job: &Job, graph: &Graph) -> f64 {
    let training = &job.recipe.training;
    let batch = training.batch_size / training.accumulate.max(1);
    let paths = Paths::all(graph);
    let options = StepOptions {
        activations: training.activations,
        ..StepOptions::new(LossOptions::default(), &paths)
    };
    let memory = Memory::of_training(graph, batch as usize, &options, OPTIMIZER_SLOTS);
    memory.peak as f64 / f64::from(1 << 20)
}

//! A network with the formula's tensors, compared with what a public implementation made of them.

use polynet::arch::graph::TensorSpec;
use polynet::arch::{Graph, published};
use polynet::{CompileOptions, Device, HostTensor, Isa, Params, Precision, Predictor, TensorMap};
use polynet_oracle::formula::{largest, numbers, sample_indices, values, wholes};
use polynet_oracle::{Asked, Pass, asked_for_prediction, in_f64};
use serde_json::Value;
use std::collections::HashSet;

/// Largest deviation of the oracle, relative to the largest element: the fixtures have eight digits, and
/// residual scales are `f32` here.
const TOLERANCE: f64 = 1e-6;
/// A gradient below this is zero but for rounding: the others are above 1e-3.
const ZERO: f64 = 1e-9;
/// Share of the batch's statistics in the running ones.
const NORM_MOMENTUM: f64 = 0.1;

/// A fixture with the network that it is of.
pub(crate) struct Reference {
    pub(crate) fixture: Value,
    pub(crate) seed: u64,
    pub(crate) graph: Graph,
    /// The reference's name of each tensor.
    pub(crate) names: Vec<String>,
    pub(crate) tensors: Vec<Vec<f32>>,
}

impl Reference {
    /// The formula's tensors by the reference's names, each with low end and span from `range`.
    pub(crate) fn new(
        (fixture, seed): (Value, u64),
        graph: Graph,
        names: Vec<String>,
        range: impl Fn(&TensorSpec, &str) -> (f32, f32),
    ) -> Self {
        let tensors = graph.tensors().zip(&names);
        let tensors =
            tensors.map(|(spec, name)| values(name, &spec.shape, seed, range(&spec, name)));
        Self {
            tensors: tensors.collect(),
            fixture,
            seed,
            graph,
            names,
        }
    }

    /// The formula's input, `[batch, 3, size, size]`.
    fn images(&self) -> Vec<f32> {
        values(
            "input",
            &wholes(&self.fixture["input"]),
            self.seed,
            (-2.0, 4.0),
        )
    }

    fn images_in_f64(&self) -> Vec<f64> {
        self.images().into_iter().map(f64::from).collect()
    }

    fn params(&self) -> Params {
        let named = self
            .graph
            .tensors()
            .zip(&self.tensors)
            .map(|(spec, values)| {
                let TensorSpec { name, shape, .. } = spec;
                let values = values.clone();
                (name, HostTensor { shape, values })
            });
        Params::from_source(&self.graph, &named.collect::<TensorMap>()).unwrap()
    }

    /// Checks the engine's logits, by every instruction set of this processor, against the parity that
    /// the table of networks states of `preset`, and the oracle's at every stage.
    pub(crate) fn check_prediction(&self, preset: &str) {
        let parity = published::network_of(preset).unwrap().parity;
        let bound = parity.bound().unwrap();
        let (images, params) = (self.images(), self.params());
        let expected = numbers(&self.fixture["logits"]);
        // For f32 the two kinds of AVX-512 are one.
        for isa in Isa::available().filter(|isa| !isa.multiplies_bf16()) {
            let options = CompileOptions::new(Some(isa), Precision::F32);
            let mut predictor = Predictor::new(&self.graph, &params, Device::Cpu, options).unwrap();
            let found = predictor.logits(&images).into_iter().map(f64::from);
            let error = deviation(&found.collect::<Vec<_>>(), &expected);
            println!("{preset}: {isa}, logits within {error:.1e}, asked for {bound:.0e}");
            assert!(error <= bound, "{preset} {isa}: {error:e}");
        }
        let asked = asked_for_prediction(&self.graph);
        let tensors = in_f64(self.tensors.iter().map(Vec::as_slice));
        let pass = Pass::new(&self.graph, &tensors, &self.images_in_f64(), &asked);
        let error = deviation(&pass.logits(), &expected);
        assert!(
            error <= TOLERANCE,
            "{preset}: the oracle's logits: {error:e}"
        );
        self.check_stages(&pass);
    }

    /// Compares sampled elements of every stage, relative to its largest element.
    fn check_stages(&self, pass: &Pass<'_>) {
        let mut checked = 0;
        let references = self.fixture["stages"].as_object().unwrap();
        for part in &self.graph.parts {
            let stage = self.stage_name(&part.name).unwrap_or_default();
            let Some(reference) = references.get(&stage) else {
                continue;
            };
            let found = pass.result(part.output);
            let scale = reference["max_abs"].as_f64().unwrap();
            let samples = numbers(&reference["samples"]);
            let indices = sample_indices(&format!("sample:{stage}"), found.len(), self.seed);
            assert!(!samples.is_empty() && samples.len() <= indices.len());
            for (index, expected) in indices.into_iter().zip(samples) {
                let error = (found[index] - expected).abs() / scale;
                assert!(error <= TOLERANCE, "{stage}[{index}]: {error:e}");
            }
            checked += 1;
        }
        let pooled = usize::from(references.contains_key("pooled"));
        assert_eq!(checked + pooled, references.len());
    }

    /// The reference's name of a part that it has an output for: whole stages, not single modules.
    fn stage_name(&self, part: &str) -> Option<String> {
        let Some((stage, position)) = part.rsplit_once('.') else {
            return (part != "head").then(|| part.to_owned());
        };
        let modules = self.graph.parts.iter();
        let count = modules
            .filter(|part| part.name.starts_with(&format!("{stage}.")))
            .count();
        (position.parse() == Ok(count - 1)).then(|| stage.to_owned())
    }

    /// Checks a training step of the oracle: loss, the gradient of every parameter, and where the
    /// fixture has them the stages and the running statistics.
    pub(crate) fn check_training(&self, name: &str) {
        let tensors = in_f64(self.tensors.iter().map(Vec::as_slice));
        let asked = Asked::default();
        let pass = Pass::new(&self.graph, &tensors, &self.images_in_f64(), &asked);
        let labels = wholes(&self.fixture["labels"]);
        let gradients = pass.backward(&labels, &HashSet::new());
        let (found, loss) = (gradients.loss, self.fixture["loss"].as_f64().unwrap());
        assert!(
            (found / loss - 1.0).abs() <= TOLERANCE,
            "{name}: {found} {loss}"
        );
        if self.fixture.get("stages").is_some() {
            self.check_stages(&pass);
            self.check_statistics(&pass, tensors.clone());
        }
        let references = self.fixture["gradients"].as_object().unwrap();
        let found = self.names.iter().zip(&gradients.tensors);
        let found = found.filter_map(|(name, gradient)| Some((name, gradient.as_ref()?)));
        assert_eq!(found.clone().count(), references.len(), "{name}");
        for (tensor, found) in found {
            let reference = &references[tensor];
            // A bias before batch norm has no gradient but rounding's.
            let number = |key: &str| reference[key].as_f64().unwrap().max(ZERO);
            let norm = found
                .iter()
                .map(|value| value * value)
                .sum::<f64>()
                .sqrt()
                .max(ZERO);
            let error = (norm / number("l2") - 1.0).abs();
            assert!(error <= TOLERANCE, "{name} {tensor}: {error:e}");
            let samples = numbers(&reference["samples"]);
            let indices = sample_indices(&format!("grad:{tensor}"), found.len(), self.seed);
            for (index, expected) in indices.into_iter().zip(samples) {
                let error = (found[index] - expected).abs() / number("max_abs");
                assert!(error <= TOLERANCE, "{name} {tensor}[{index}]: {error:e}");
            }
        }
    }

    /// The running statistics after the step.
    fn check_statistics(&self, pass: &Pass<'_>, mut tensors: Vec<Vec<f64>>) {
        for (norm, mean, var) in &pass.statistics {
            let [_, _, running_mean, running_var] = self.graph.norm_tensors(*norm);
            for (running, batch) in [(running_mean, mean), (running_var, var)] {
                for (running, batch) in tensors[running].iter_mut().zip(batch) {
                    *running += NORM_MOMENTUM * (batch - *running);
                }
            }
        }
        let references = self.fixture["buffers"].as_object().unwrap();
        let mut checked = 0;
        for (name, found) in self.names.iter().zip(&tensors) {
            let Some(expected) = references.get(name) else {
                continue;
            };
            let indices = sample_indices(&format!("buffer:{name}"), found.len(), self.seed);
            for (index, expected) in indices.into_iter().zip(numbers(expected)) {
                let error = (found[index] - expected).abs() / largest(found);
                assert!(error <= TOLERANCE, "{name}[{index}]: {error:e}");
            }
            checked += 1;
        }
        assert_eq!(checked, references.len());
    }
}

/// Largest difference, relative to the largest element expected.
fn deviation(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let errors = found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (found - expected).abs());
    errors.fold(0.0, f64::max) / largest(expected)
}

//! What a network costs: parameters, multiply-accumulates and memory, from its graph alone.

use super::graph::{Graph, Op, Pool, TensorKind};

/// Bytes of an `f32`.
const FLOAT: u64 = 4;
/// Bytes of an index kept by max pooling for its backward pass.
const INDEX: u64 = 8;

/// Trained parameters by kind; running statistics are not parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Convolution weights and biases.
    pub convolution: u64,
    /// Batch norm's scales and shifts.
    pub batch_norm: u64,
    /// The classifier's weight and bias.
    pub linear: u64,
}

impl Parameters {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.convolution + self.batch_norm + self.linear
    }
}

/// What a network costs. Activations are per image of the network's input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Trained parameters.
    pub parameters: Parameters,
    /// Running means and variances.
    pub statistics: u64,
    /// Multiply-accumulates of the convolutions and the classifier.
    pub macs: u64,
    /// Bytes of feature maps alive at once when each is dropped after its last reader.
    pub live_activations: u64,
    /// Bytes of feature maps that the backward pass reads.
    pub kept_activations: u64,
}

impl Cost {
    /// The cost of a graph.
    pub fn of(graph: &Graph) -> Self {
        let mut parameters = Parameters::default();
        let mut statistics = 0;
        for tensor in graph.tensors() {
            let count = tensor.num_elements() as u64;
            match tensor.kind {
                TensorKind::ConvWeight | TensorKind::ConvBias => parameters.convolution += count,
                TensorKind::NormWeight | TensorKind::NormBias => parameters.batch_norm += count,
                TensorKind::LinearWeight | TensorKind::LinearBias => parameters.linear += count,
                TensorKind::RunningMean | TensorKind::RunningVar => statistics += count,
            }
        }
        Self {
            parameters,
            statistics,
            macs: (0..graph.nodes.len()).map(|id| node_macs(graph, id)).sum(),
            live_activations: live_activations(graph),
            kept_activations: kept_activations(graph),
        }
    }

    /// Bytes for prediction in `f32`: weights, statistics and the live feature maps.
    pub fn prediction_bytes(&self, batch_size: u64) -> u64 {
        FLOAT * (self.parameters.total() + self.statistics) + self.live_activations * batch_size
    }

    /// Bytes for a training step in `f32`: weights, gradients, `optimizer_slots` values of
    /// optimizer state per parameter, statistics, and what the backward pass reads. Workspace of
    /// the convolutions comes on top.
    pub fn training_bytes(&self, batch_size: u64, optimizer_slots: u64) -> u64 {
        FLOAT * (self.parameters.total() * (2 + optimizer_slots) + self.statistics)
            + self.kept_activations * batch_size
    }
}

/// `12345678` in groups of three digits: `12,345,678` with a comma between them.
pub(crate) fn grouped(number: u64, separator: char) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

/// Multiply-accumulates of one node for one image; zero where it is no convolution or product.
pub fn node_macs(graph: &Graph, id: usize) -> u64 {
    let node = &graph.nodes[id];
    let [_, height, width] = node.shape.map(|size| size as u64);
    match node.op {
        Op::Conv { weight, .. } => {
            let weights: usize = graph.convs[weight].shape.iter().product();
            weights as u64 * height * width
        }
        Op::Linear => graph.linear.in_features as u64 * graph.linear.out_features as u64,
        _ => 0,
    }
}

fn elements(graph: &Graph, id: usize) -> u64 {
    graph.nodes[id].shape.iter().product::<usize>() as u64
}

fn live_activations(graph: &Graph) -> u64 {
    let last_readers = graph.last_readers();
    let mut dropped_after: Vec<Vec<usize>> = vec![Vec::new(); graph.nodes.len()];
    for (id, &last) in last_readers.iter().enumerate() {
        dropped_after[last].push(id);
    }
    let (mut live, mut peak) = (0, 0);
    for (id, dropped) in dropped_after.iter().enumerate() {
        live += elements(graph, id);
        peak = peak.max(live);
        live -= dropped.iter().map(|&id| elements(graph, id)).sum::<u64>();
    }
    peak * FLOAT
}

/// Each convolution with batch norm keeps its sum (read by batch norm's backward pass) and its
/// result (read by its successor); other results are kept once, pools keep indices.
fn kept_activations(graph: &Graph) -> u64 {
    let node_bytes = |id: usize| {
        let bytes = elements(graph, id);
        match graph.nodes[id].op {
            Op::Conv { norm: Some(_), .. } => 2 * FLOAT * bytes,
            Op::Pool {
                pool: Pool::Max, ..
            } => (FLOAT + INDEX) * bytes,
            _ => FLOAT * bytes,
        }
    };
    (0..graph.nodes.len()).map(node_bytes).sum()
}

#[cfg(test)]
mod tests {
    use crate::arch::Architecture;

    fn cost(spec: &str) -> super::Cost {
        spec.parse::<Architecture>().unwrap().cost().unwrap()
    }

    fn giga(macs: u64) -> String {
        format!("{:.2}", macs as f64 / 1e9)
    }

    fn mega(parameters: u64, digits: usize) -> String {
        format!("{:.digits$}", parameters as f64 / 1e6)
    }

    #[test]
    fn networks_have_the_known_parameters_and_macs() {
        let table = [
            ("ir-3-6-3", "22.585", "7.25", "9.02"),
            ("ir-5-10-5", "31.574", "9.19", "11.45"),
            ("ir-6-12-6", "36.069", "10.16", "12.66"),
            ("ir-10-20-10", "54.049", "14.05", "17.52"),
            ("ir-20-56-20", "117.767", "29.17", "36.42"),
            ("very-deep-polynet", "95.367", "27.79", "34.70"),
            ("very-deep-polynet-full", "77.213", "27.79", "34.70"),
        ];
        for (preset, parameters, macs_299, macs_331) in table {
            let at_299 = cost(&format!("{preset}; input = 299"));
            let at_331 = cost(&format!("{preset}; input = 331"));
            assert_eq!(mega(at_299.parameters.total(), 3), parameters, "{preset}");
            assert_eq!(giga(at_299.macs), macs_299, "{preset} at 299");
            assert_eq!(giga(at_331.macs), macs_331, "{preset} at 331");
        }
    }

    #[test]
    fn the_released_model_has_its_exact_size() {
        let cost = cost("very-deep-polynet");
        assert_eq!(cost.parameters.total(), 95_366_600);
        assert_eq!(cost.parameters.convolution, 92_956_512);
        assert_eq!(cost.parameters.linear, 2_049_000);
    }

    #[test]
    fn stage_studies_have_the_known_cost() {
        let table = [
            ("a", "7.75", "8.25", ["23.00", "23.41", "22.58"]),
            ("b", "9.28", "11.30", ["29.62", "36.66", "22.58"]),
            ("c", "7.63", "8.02", ["28.62", "34.65", "22.58"]),
        ];
        for (stage, two_blocks, three_blocks, [two, three, shared]) in table {
            let expected = [
                ("2-way", two_blocks, two),
                ("mpoly-2", two_blocks, two),
                ("poly-2", two_blocks, shared),
                ("3-way", three_blocks, three),
                ("mpoly-3", three_blocks, three),
                ("poly-3", three_blocks, shared),
            ];
            for (module, macs, parameters) in expected {
                let cost = cost(&format!("ir-3-6-3-{stage}-{module}"));
                assert_eq!(giga(cost.macs), macs, "{module} in {stage}");
                // The table gives hundredths cut off or rounded; both are within 0.01.
                let expected: f64 = parameters.parse().unwrap();
                let difference = cost.parameters.total() as f64 / 1e6 - expected;
                assert!(difference.abs() < 0.01, "{module} in {stage}: {difference}");
            }
        }
    }

    #[test]
    fn mixed_studies_have_the_known_cost() {
        let table = [
            ("poly-3", "36.07"),
            ("mpoly-3", "64.22"),
            ("3-way", "64.22"),
            ("mixed", "54.84"),
        ];
        for (name, parameters) in table {
            let cost = cost(&format!("ir-6-12-6-b-{name}"));
            assert_eq!(mega(cost.parameters.total(), 2), parameters, "{name}");
            assert_eq!(giga(cost.macs), "18.27", "{name}");
        }
    }

    #[test]
    fn resnets_have_the_known_cost() {
        let resnet_269 = cost("resnet-269");
        assert_eq!(mega(resnet_269.parameters.total(), 1), "102.1");
        assert_eq!(format!("{:.1}", resnet_269.macs as f64 / 1e9), "20.0");
        let resnet_500 = cost("resnet-500");
        assert_eq!(mega(resnet_500.parameters.total(), 1), "186.6");
        assert_eq!(format!("{:.1}", resnet_500.macs as f64 / 1e9), "36.8");
    }

    #[test]
    fn live_memory_peaks_where_the_stem_first_branches() {
        // At 299 px: the 64×147×147 map is read by the pool (64×73×73) and by the 96×73×73
        // convolution, and lives until both are there.
        let cost = cost("ir-3-6-3");
        assert_eq!(
            cost.live_activations,
            4 * (64 * 147 * 147 + (64 + 96) * 73 * 73)
        );
    }

    #[test]
    fn training_keeps_more_than_prediction() {
        let cost = cost("small-polynet");
        assert!(cost.kept_activations > cost.live_activations);
        assert!(cost.training_bytes(8, 1) > cost.prediction_bytes(8));
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (95_366_600, "95,366,600"),
        ] {
            assert_eq!(super::grouped(number, ','), text);
        }
    }
}

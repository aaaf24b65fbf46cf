//! What a network costs: parameters and multiply-accumulates, from its graph alone. How much memory it
//! needs follows from the programs that compute it: [`Memory`](crate::cpu::Memory).

use super::graph::{Graph, Op, TensorKind};

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

/// What a network costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Trained parameters.
    pub parameters: Parameters,
    /// Running means and variances.
    pub statistics: u64,
    /// Multiply-accumulates of the convolutions and the classifier.
    pub macs: u64,
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
        }
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

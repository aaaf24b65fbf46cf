//! What the paper and the released model say of a network, beside what its graph gives.

use super::Cost;

/// A published figure and the computed one.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// What was said, with its source.
    pub statement: &'static str,
    /// The published figure, in the unit of `computed`.
    pub published: f64,
    /// The figure of the network here.
    pub computed: f64,
    /// Largest relative difference that counts as a match: the precision of the published figure.
    pub tolerance: f64,
    /// What explains a mismatch.
    pub note: &'static str,
}

impl Claim {
    /// Whether the figures agree to the published precision.
    pub fn matches(&self) -> bool {
        (self.computed - self.published).abs() <= self.tolerance * self.published.abs()
    }
}

/// The claims about the preset called `name`, judged against its cost.
pub fn about(name: &str, cost: &Cost) -> Vec<Claim> {
    let millions = cost.parameters.total() as f64 / 1e6;
    let parameters = |statement, published, tolerance, note| Claim {
        statement,
        published,
        computed: millions,
        tolerance,
        note,
    };
    match name {
        "very-deep-polynet" => vec![
            parameters(
                "92 M parameters (paper, Fig. 2)",
                92.0,
                0.5 / 92.0,
                "the convolution weights alone are 92,956,512; batch norm and the classifier make \
                 the rest",
            ),
            parameters(
                "95,366,600 parameters (released model)",
                95.366_6,
                1e-12,
                "",
            ),
        ],
        "very-deep-polynet-full" => vec![parameters(
            "92 M parameters (paper, Fig. 2)",
            92.0,
            0.5 / 92.0,
            "with the sharing of the paper's text; the released model shares less",
        )],
        "ir-20-56-20" => vec![parameters(
            "133 M parameters (paper, Fig. 2)",
            133.0,
            0.5 / 133.0,
            "no reading of the published widths reproduces it",
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;

    #[test]
    fn the_released_size_matches_and_the_rounded_ones_do_not() {
        let network: Architecture = "very-deep-polynet".parse().unwrap();
        let claims = about("very-deep-polynet", &network.cost().unwrap());
        let verdicts: Vec<bool> = claims.iter().map(Claim::matches).collect();
        assert_eq!(verdicts, [false, true]);
    }
}

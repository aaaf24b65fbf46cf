//! Means, spreads and differences over few seeds.
//!
//! Law: two things are compared by the seeds that both have, each with itself, because a seed draws the
//! same order of images and the same crops for both. The interval of the mean difference is Student's, at
//! 95 %; a difference inside its own interval is called that and nothing else.

use serde::Serialize;
use std::f64::consts::FRAC_2_PI;
use std::fmt;

/// Of how many intervals one holds the true difference.
const CONFIDENCE: f64 = 0.95;

/// What several seeds gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// How many.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, over n − 1; none of a single one.
    pub sd: Option<f64>,
}

/// The mean of differences, seed by seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Seeds that both have.
    pub n: usize,
    /// The mean difference.
    pub mean: f64,
    /// Half the width of its confidence interval; none of a single seed.
    pub half_width: Option<f64>,
}

/// What a difference of errors says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The error is lower, and the interval ends below 0.
    Better,
    /// The error is higher, and the interval begins above 0.
    Worse,
    /// 0 is in the interval.
    WithinInterval,
    /// One seed has no interval.
    OneSeed,
}

impl Spread {
    /// Of values in any order; none of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (n > 0).then(|| Self {
            n,
            mean,
            sd: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
        })
    }

    /// `mean ± sd` with so many digits after the point; of one value that.
    pub fn text(&self, digits: usize) -> String {
        let Self { mean, sd, .. } = self;
        match sd {
            Some(sd) => format!("{mean:.digits$} ± {sd:.digits$}"),
            None => format!("{mean:.digits$}"),
        }
    }
}

impl Difference {
    /// Of one difference a seed; none of none.
    pub fn of(differences: &[f64]) -> Option<Self> {
        let Spread { n, mean, sd } = Spread::of(differences)?;
        let half_width = sd.map(|sd| student(n - 1) * sd / (n as f64).sqrt());
        Some(Self {
            n,
            mean,
            half_width,
        })
    }

    /// What it says where it is one of errors.
    pub fn verdict(&self) -> Verdict {
        match self.half_width {
            None => Verdict::OneSeed,
            Some(half) if self.mean.abs() <= half => Verdict::WithinInterval,
            Some(_) if self.mean < 0.0 => Verdict::Better,
            Some(_) => Verdict::Worse,
        }
    }

    /// `+0.31 [−0.20, +0.82]` with so many digits after the point.
    pub fn text(&self, digits: usize) -> String {
        let signed = |value: f64| format!("{value:+.digits$}").replace('-', "−");
        let mean = signed(self.mean);
        match self.half_width {
            Some(half) => {
                let (low, high) = (signed(self.mean - half), signed(self.mean + half));
                format!("{mean} [{low}, {high}]")
            }
            None => mean,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::WithinInterval => "within the interval",
            Self::OneSeed => "one seed",
        })
    }
}

/// Where Student's distribution of so many degrees of freedom, at least 1, has [`CONFIDENCE`] of its
/// mass on both sides of 0 together.
fn student(freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 16.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        match mass(middle, freedom) < CONFIDENCE {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

/// The mass of Student's distribution between −t and t (Abramowitz and Stegun, 26.7.3 and 26.7.4).
fn mass(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom % 2 == 1;
    // Of odd degrees cos + 2/3 cos³ + 2·4/(3·5) cos⁵ …, of even ones 1 + 1/2 cos² + 1·3/(2·4) cos⁴ ….
    let mut term = if is_odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    let first = if is_odd { 3 } else { 2 };
    for power in (first..=freedom).step_by(2) {
        sum += term;
        term *= cosine * cosine * (power - 1) as f64 / power as f64;
    }
    match is_odd {
        true => FRAC_2_PI * (angle + sine * sum),
        false => sine * sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        for (freedom, expected) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (9, 2.262),
            (10, 2.228),
            (30, 2.042),
            (1000, 1.962),
        ] {
            let found = student(freedom);
            assert!((found - expected).abs() < 6e-4, "{freedom}: {found}");
        }
    }

    #[test]
    fn a_difference_says_only_what_its_interval_lets_it() {
        // Mean −1, deviations −0.5, 0, 0.5: sd 0.5; half the width is 4.303 · 0.5 / √3 = 1.242.
        let difference = Difference::of(&[-1.5, -1.0, -0.5]).unwrap();
        assert_eq!(difference.text(2), "−1.00 [−2.24, +0.24]");
        assert_eq!(difference.verdict(), Verdict::WithinInterval);
        let of = |values: &[f64]| Difference::of(values).unwrap();
        assert_eq!(of(&[-1.1, -1.0, -0.9]).verdict(), Verdict::Better);
        assert_eq!(of(&[1.1, 1.0, 0.9]).verdict(), Verdict::Worse);
        assert_eq!(of(&[0.0, 0.0]).verdict(), Verdict::WithinInterval);
        assert_eq!(of(&[-5.0]).verdict(), Verdict::OneSeed);
        assert_eq!(of(&[-5.0]).text(1), "−5.0");
        assert_eq!(Difference::of(&[]), None);
    }

    #[test]
    fn a_spread_is_over_n_minus_one() {
        // Deviations −2, 0, 2: squares 8, over 2.
        assert_eq!(Spread::of(&[1.0, 3.0, 5.0]).unwrap().text(2), "3.00 ± 2.00");
        assert_eq!(Spread::of(&[1.5]).unwrap().text(2), "1.50");
        assert_eq!(Spread::of(&[]), None);
    }
}

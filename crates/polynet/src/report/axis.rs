//! Axes: from values to places along a side of a chart, and the ticks that say what is where.

use super::canvas::Style;

/// How values lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Linear, of values that are whole numbers: no tick stands between two.
    Counts,
    /// By powers of ten; both ends are above 0.
    Logarithmic,
}

/// A side of a chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    /// What its values are, with their unit; empty where another chart's axis says so.
    pub(super) title: &'static str,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) scale: Scale,
}

/// A value that an axis names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// From 0 at the low end to 1 at the high one.
    pub(super) place: f64,
    pub(super) label: String,
}

impl Axis {
    /// Where a value stands: 0 at the low end, 1 at the high one.
    pub(super) fn place(&self, value: f64) -> f64 {
        let along = |value: f64| match self.scale {
            Scale::Linear | Scale::Counts => value,
            Scale::Logarithmic => value.log10(),
        };
        (along(value) - along(self.low)) / (along(self.high) - along(self.low))
    }

    /// Ticks along `width` pixels, as many as have room for their labels, up to ten.
    pub(super) fn ticks_across(&self, width: f64, style: Style) -> Vec<Tick> {
        let has_room = |ticks: &Vec<Tick>| {
            let ends = |tick: &Tick| {
                let (middle, half) = (tick.place * width, style.width(&tick.label) / 2.0 + 6.0);
                (middle - half, middle + half)
            };
            ticks
                .windows(2)
                .all(|pair| ends(&pair[0]).1 <= ends(&pair[1]).0)
        };
        let sparser = (1..=10).rev().map(|most| self.ticks(most));
        sparser.into_iter().find(has_room).unwrap_or_default()
    }

    /// Ticks up `height` pixels.
    pub(super) fn ticks_up(&self, height: f64) -> Vec<Tick> {
        let apart = match self.scale {
            Scale::Linear | Scale::Counts => 30.0,
            // As many as can be: each power says something of its own.
            Scale::Logarithmic => 20.0,
        };
        self.ticks((height / apart).max(1.0) as usize)
    }

    /// At most about `most` ticks at round values.
    fn ticks(&self, most: usize) -> Vec<Tick> {
        let values = match self.scale {
            Scale::Linear | Scale::Counts => self.multiples(most),
            Scale::Logarithmic => self.powers(most),
        };
        let tick = |(value, label): (f64, String)| Tick {
            place: self.place(value),
            label: label.replace('-', "−"),
        };
        values.into_iter().map(tick).collect()
    }

    /// The multiples of 1, 2 or 5 times a power of ten.
    fn multiples(&self, most: usize) -> Vec<(f64, String)> {
        let least = (self.high - self.low) / most as f64;
        let first = least.log10().floor() as i32;
        let steps = (first..).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| (digit, power)));
        let is_wide = |(digit, power): &(f64, i32)| {
            let is_fraction = self.scale == Scale::Counts && *power < 0;
            digit * 10.0_f64.powi(*power) >= 0.999_999 * least && !is_fraction
        };
        let Some((digit, power)) = steps.into_iter().find(is_wide) else {
            return Vec::new();
        };
        let step = digit * 10.0_f64.powi(power);
        let (first, last) = (
            (self.low / step - 1e-6).ceil(),
            (self.high / step + 1e-6).floor(),
        );
        let values = (first as i64..=last as i64).map(|multiple| multiple as f64 * step);
        values.map(|value| (value, label(value, power))).collect()
    }

    /// Powers of ten, and 2 and 5 times them where there are few.
    fn powers(&self, most: usize) -> Vec<(f64, String)> {
        let (low, high) = (self.low.log10(), self.high.log10());
        let digits: &[f64] = match (high - low) * 3.0 <= most as f64 {
            true => &[1.0, 2.0, 5.0],
            false => &[1.0],
        };
        let stride = ((high - low) / most as f64).ceil().max(1.0) as usize;
        let powers = (low.floor() as i32..=high.ceil() as i32).step_by(stride);
        let values = powers.flat_map(|power| digits.iter().map(move |digit| (*digit, power)));
        let values = values.map(|(digit, power)| {
            let value = digit * 10.0_f64.powi(power);
            (value, label(value, power))
        });
        let slack = 1e-9;
        let is_shown =
            |(value, _): &(f64, String)| (low - slack..=high + slack).contains(&value.log10());
        values.filter(is_shown).collect()
    }
}

/// A multiple of a power of ten, with the digits that it needs.
fn label(value: f64, power: i32) -> String {
    if value.abs() < 10.0_f64.powi(power) / 2.0 {
        return "0".to_owned();
    }
    match power {
        0.. => {
            let sign = if value < 0.0 { "-" } else { "" };
            sign.to_owned() + &grouped(value.abs().round() as u64)
        }
        -4..0 => format!("{value:.*}", power.unsigned_abs() as usize),
        _ => {
            let own = value.abs().log10().floor() as i32;
            format!("{value:.*e}", (own - power).max(0).unsigned_abs() as usize)
        }
    }
}

/// `1234567` as `1 234 567`, with spaces that do not break a line and are no wider than they must be.
pub(crate) fn grouped(number: u64) -> String {
    crate::arch::cost::grouped(number, '\u{202f}')
}

#[cfg(test)]
mod tests {
    use super::super::canvas::{Color, style};
    use super::*;

    fn labels(low: f64, high: f64, scale: Scale, most: usize) -> String {
        let axis = Axis {
            title: "",
            low,
            high,
            scale,
        };
        let ticks = axis.ticks(most);
        assert!(
            ticks
                .iter()
                .all(|tick| (-1e-6..=1.0 + 1e-6).contains(&tick.place))
        );
        let labels: Vec<String> = ticks.into_iter().map(|tick| tick.label).collect();
        labels.join(" ").replace('\u{202f}', "'")
    }

    #[test]
    fn ticks_are_round_values_within_the_axis() {
        use Scale::{Counts, Linear, Logarithmic};
        for (low, high, scale, most, expected) in [
            (0.0, 100.0, Linear, 5, "0 20 40 60 80 100"),
            (0.0, 2.3, Linear, 5, "0 0.5 1.0 1.5 2.0"),
            (0.0, 0.432, Linear, 3, "0 0.2 0.4"),
            (-1.0, 1.0, Linear, 4, "−1.0 −0.5 0 0.5 1.0"),
            (97.2, 99.1, Linear, 4, "97.5 98.0 98.5 99.0"),
            (0.0, 4.8e-5, Linear, 3, "0 2e−5 4e−5"),
            (0.0, 1.5e-5, Linear, 3, "0 5e−6 1.0e−5 1.5e−5"),
            (
                0.0,
                56_000.0,
                Counts,
                6,
                "0 10'000 20'000 30'000 40'000 50'000",
            ),
            (0.0, 3.0, Counts, 8, "0 1 2 3"),
            (1e-4, 1.0, Logarithmic, 6, "0.0001 0.001 0.01 0.1 1"),
            (3e-7, 2e-5, Logarithmic, 3, "1e−6 1e−5"),
            (0.04, 0.5, Logarithmic, 6, "0.05 0.1 0.2 0.5"),
            (1.0, 1e9, Logarithmic, 4, "1 1'000 1'000'000 1'000'000'000"),
        ] {
            assert_eq!(labels(low, high, scale, most), expected, "{low} to {high}");
        }
    }

    #[test]
    fn labels_side_by_side_have_room() {
        let style = style(12.0, Color::Ink);
        for (high, width) in [
            (900.0, 800.0),
            (1e9, 800.0),
            (5e6, 300.0),
            (10.0, 60.0),
            (7.0, 20.0),
        ] {
            let axis = Axis {
                title: "",
                low: 0.0,
                high,
                scale: Scale::Counts,
            };
            let ticks = axis.ticks_across(width, style);
            assert!(!ticks.is_empty(), "{high} on {width}");
            for pair in ticks.windows(2) {
                let between = (pair[1].place - pair[0].place) * width;
                let half = |tick: &Tick| style.width(&tick.label) / 2.0;
                assert!(
                    between > half(&pair[0]) + half(&pair[1]),
                    "{high} on {width}: {pair:?}"
                );
            }
        }
    }
}

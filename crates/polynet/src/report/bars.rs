//! Bars from a baseline's value to each network's own, with every seed as a point.
//!
//! Law: a bar is as long as the difference that it shows, and begins at the value that it is compared
//! with; so the axis need not begin at 0.

use super::axis::{Axis, Scale};
use super::canvas::{Align, Color, Path, Sheet, Style, pen, style};

const WIDTH: f64 = 640.0;
const MARGIN: f64 = 10.0;
const ROW: f64 = 26.0;
const TEXT: Style = style(12.0, Color::Ink);
/// Pixels for the text after a row.
const AFTER: f64 = 124.0;
/// Pixels that a name may take.
const LONGEST_NAME: f64 = 190.0;

/// One network.
pub(crate) struct Bar {
    pub(crate) name: String,
    /// One a seed.
    pub(crate) values: Vec<f64>,
    /// Mean and standard deviation.
    pub(crate) spread: Option<(f64, Option<f64>)>,
    /// The baseline's mean.
    pub(crate) from: Option<f64>,
    /// What stands after it.
    pub(crate) note: String,
}

/// Draws the bars below each other, if one has a value; `label` says what they are to those who can't
/// see them.
pub(crate) fn bars(label: &str, title: &'static str, bars: &[Bar]) -> Option<String> {
    let axis = axis(title, bars)?;
    let names = bars.iter().map(|bar| TEXT.width(&bar.name));
    let names = names.fold(0.0, f64::max).min(LONGEST_NAME);
    let (left, right) = (MARGIN + names + 14.0, WIDTH - MARGIN - AFTER - 14.0);
    let (top, bottom) = (34.0, 34.0 + ROW * bars.len() as f64);
    let x = |value: f64| left + (right - left) * axis.place(value);
    let mut sheet = Sheet::default();
    let title_style = style(13.0, Color::Ink);
    sheet.text((left, 16.0), title, title_style.bold());
    for tick in axis.ticks_across(right - left, TEXT) {
        let x = left + tick.place * (right - left);
        let line = Path::from((x, top)).to((x, bottom));
        sheet.line(pen(Color::Grid, 1.0), &line);
        sheet.text((x, bottom + 14.0), &tick.label, TEXT.align(Align::Centre));
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = top + ROW * (index as f64 + 0.5);
        let name = TEXT.fitted(&bar.name, LONGEST_NAME);
        sheet.text((left - 14.0, y), &name, TEXT.align(Align::Right));
        sheet.text((right + 14.0, y), &bar.note, TEXT);
        draw(&mut sheet, bar, y, &x);
    }
    Some(sheet.finish(label, WIDTH, bottom + 28.0))
}

fn axis(title: &'static str, bars: &[Bar]) -> Option<Axis> {
    let all = bars.iter().flat_map(|bar| {
        let spread = bar.spread.map(|(mean, sd)| (mean, sd.unwrap_or_default()));
        let ends = spread.map(|(mean, sd)| [mean - sd, mean + sd]);
        let values = bar.values.iter().copied();
        values.chain(ends.into_iter().flatten())
    });
    let low = all.clone().min_by(f64::total_cmp)?;
    let high = all.max_by(f64::total_cmp)?;
    let margin = match high - low {
        span if span > 0.0 => 0.06 * span,
        _ => (0.1 * high.abs()).max(1e-3),
    };
    Some(Axis {
        title,
        low: low - margin,
        high: high + margin,
        scale: Scale::Linear,
    })
}

fn draw(sheet: &mut Sheet, bar: &Bar, y: f64, x: &dyn Fn(f64) -> f64) {
    let Some((mean, sd)) = bar.spread else {
        return;
    };
    if let Some(from) = bar.from {
        let color = match mean <= from {
            true => Color::Sky,
            false => Color::Amber,
        };
        let (low, high) = (x(mean.min(from)), x(mean.max(from)));
        let mut path = Path::default();
        path.rectangle((low, y - 9.0), (high - low, 18.0));
        sheet.fill(color, 1.0, &path);
    }
    let upright = |x: f64, half: f64| Path::from((x, y - half)).to((x, y + half));
    if let Some(sd) = sd {
        let (low, high) = (x(mean - sd), x(mean + sd));
        sheet.line(pen(Color::Ink, 1.2), &Path::from((low, y)).to((high, y)));
        sheet.line(pen(Color::Ink, 1.2), &upright(low, 4.0));
        sheet.line(pen(Color::Ink, 1.2), &upright(high, 4.0));
    }
    sheet.line(pen(Color::Ink, 2.4), &upright(x(mean), 9.0));
    for value in &bar.values {
        sheet.dot(Color::Blue, (x(*value), y), 3.4);
    }
}

#[cfg(test)]
mod tests {
    use super::super::look;
    use super::*;

    fn bar(name: &str, values: &[f64], from: Option<f64>) -> Bar {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Bar {
            name: name.to_owned(),
            values: values.to_vec(),
            spread: (!values.is_empty()).then_some((mean, Some(0.4))),
            from,
            note: format!("{mean:.2}"),
        }
    }

    #[test]
    fn every_seed_is_a_point_and_a_better_network_has_another_bar_than_a_worse_one() {
        let all = [
            bar("base", &[31.0, 31.5, 30.5], None),
            bar("better", &[29.0, 30.0], Some(31.0)),
            bar("worse", &[33.0], Some(31.0)),
            bar("missing", &[], Some(31.0)),
        ];
        let svg = bars("errors", "top-1 error, %", &all).unwrap();
        look("bars", &svg);
        let count = |what: &str| svg.matches(what).count();
        assert_eq!(count("<circle"), 6);
        assert_eq!(count("<path class=\"sky\""), 1);
        assert_eq!(count("<path class=\"amber\""), 1);
        assert!(svg.contains(">missing</text>"));
        assert_eq!(bars("errors", "", &all[3..]), None);
    }
}

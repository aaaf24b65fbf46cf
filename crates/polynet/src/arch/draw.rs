//! Drawings of networks and modules as SVG, in the manner of the paper's figures 3 to 5.
//!
//! On the left the network from the image down to the logits, equal neighbours drawn once with
//! their count; on the right each distinct module as its plan evaluates it: the input at the top,
//! every block once, and the sum at the bottom.

use super::report::{PartReport, Report};
use super::{ArchError, Architecture};
use polynet_algebra::{Plan, Polynomial, Value};
use std::fmt::Write;

const INK: &str = "#1f2933";
const FAINT: &str = "#7b8794";
/// Fill of stems, reductions and heads.
const PLAIN: &str = "#e4e7eb";
/// Fills of the stages, from Okabe and Ito's palette, lightened.
const STAGES: [&str; 4] = ["#bfe0f5", "#ffe0a3", "#b5e3d0", "#f3cfe1"];

const BOX_WIDTH: f64 = 300.0;
const BOX_HEIGHT: f64 = 40.0;
const GAP: f64 = 16.0;
const MARGIN: f64 = 28.0;
/// Distance of two blocks of a module drawing.
const COLUMN: f64 = 64.0;
const ROW: f64 = 58.0;

/// Draws a network.
///
/// # Errors
/// If the input is too small for the network.
pub fn network(architecture: &Architecture) -> Result<String, ArchError> {
    let name = architecture.to_string();
    let report = Report::new(&name, architecture, 1)?;
    let mut drawing = Drawing::default();
    let bottom = draw_parts(&mut drawing, architecture, &report);
    let right = draw_modules(&mut drawing, architecture);
    let (width, height) = (right.0 + MARGIN, bottom.max(right.1) + MARGIN);
    Ok(drawing.finish(width, height))
}

/// Draws one module.
pub fn module(polynomial: &Polynomial) -> String {
    let mut drawing = Drawing::default();
    let size = draw_module(&mut drawing, polynomial, STAGES[0], (MARGIN, MARGIN));
    drawing.finish(size.0 + 2.0 * MARGIN, size.1 + 2.0 * MARGIN)
}

/// SVG elements so far.
#[derive(Default)]
struct Drawing {
    body: String,
}

impl Drawing {
    fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="6" fill="{fill}" stroke="{INK}"/>"#
        );
    }

    fn text(&mut self, (x, y): (f64, f64), style: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" {style}>{text}</text>"#
        );
    }

    fn path(&mut self, commands: &str) {
        let _ = writeln!(
            self.body,
            r#"<path d="{commands}" fill="none" stroke="{INK}" marker-end="url(#tip)"/>"#
        );
    }

    fn finish(self, width: f64, height: f64) -> String {
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{INK}">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>
<rect width="100%" height="100%" fill="white"/>
{}</svg>
"##,
            self.body
        )
    }
}

const CENTRED: &str = r#"text-anchor="middle""#;
const CENTRED_BOLD: &str = r#"text-anchor="middle" font-weight="bold""#;

fn faint_small() -> String {
    format!(r#"text-anchor="middle" font-size="11" fill="{FAINT}""#)
}

/// Equal neighbouring parts and how many they are.
fn groups(parts: &[PartReport]) -> Vec<(&PartReport, usize)> {
    let mut groups: Vec<(&PartReport, usize)> = Vec::new();
    let algebra = |part: &PartReport| part.module.as_ref().map(|module| module.cascaded.clone());
    for part in parts {
        match groups.last_mut() {
            Some((last, count))
                if part.module.is_some()
                    && algebra(part) == algebra(last)
                    && part.output_shape == last.output_shape =>
            {
                *count += 1;
            }
            _ => groups.push((part, 1)),
        }
    }
    groups
}

/// The stage of a module by its part's name, as an index of colours.
fn fill(architecture: &Architecture, part: &PartReport) -> &'static str {
    let stage = architecture
        .stages
        .iter()
        .position(|stage| part.name.starts_with(&format!("{}.", stage.name())));
    match (stage, &part.module) {
        (Some(stage), Some(_)) => STAGES[stage % STAGES.len()],
        _ => PLAIN,
    }
}

/// The column of the network. Returns its lower end.
fn draw_parts(drawing: &mut Drawing, architecture: &Architecture, report: &Report) -> f64 {
    let centre = MARGIN + BOX_WIDTH / 2.0;
    let size = report.input_size;
    let mut y = MARGIN + 6.0;
    drawing.text((centre, y), CENTRED, &format!("image 3×{size}×{size}"));
    for (part, count) in groups(&report.parts) {
        drawing.path(&format!("M{centre} {:.1}V{:.1}", y + 6.0, y + GAP + 6.0));
        y += GAP + 6.0;
        let corner = (MARGIN, y);
        drawing.rectangle(corner, (BOX_WIDTH, BOX_HEIGHT), fill(architecture, part));
        let title = match &part.module {
            Some(module) => module.cascaded.clone(),
            None => part.name.replace('_', " "),
        };
        let times = if count > 1 {
            format!("  × {count}")
        } else {
            String::new()
        };
        drawing.text((centre, y + 17.0), CENTRED_BOLD, &format!("{title}{times}"));
        let [channels, height, width] = part.output_shape;
        let detail = format!(
            "{channels}×{height}×{width}, {:.2} M parameters, {:.0} MMAC",
            (part.parameters * count as u64) as f64 / 1e6,
            (part.macs * count as u64) as f64 / 1e6
        );
        drawing.text((centre, y + 32.0), &faint_small(), &detail);
        y += BOX_HEIGHT;
    }
    drawing.path(&format!("M{centre} {y:.1}V{:.1}", y + GAP));
    let logits = format!("{} logits", report.num_classes);
    drawing.text((centre, y + GAP + 14.0), CENTRED, &logits);
    y + GAP + 14.0
}

/// The distinct modules beside the network. Returns their lower right end.
fn draw_modules(drawing: &mut Drawing, architecture: &Architecture) -> (f64, f64) {
    let mut drawn: Vec<(usize, &Polynomial)> = Vec::new();
    for (stage, modules) in architecture.stages.iter().enumerate() {
        for module in &modules.modules {
            if !drawn.contains(&(stage, &module.polynomial)) {
                drawn.push((stage, &module.polynomial));
            }
        }
    }
    let left = MARGIN + BOX_WIDTH + 3.0 * MARGIN;
    let (mut x, mut y, mut row_height) = (left, MARGIN, 0.0_f64);
    let (mut right, mut bottom, mut stage_before) = (left, MARGIN, None);
    for (stage, polynomial) in drawn {
        if stage_before.is_some_and(|before| before != stage) {
            (x, y, row_height) = (left, y + row_height + 2.0 * MARGIN, 0.0);
        }
        stage_before = Some(stage);
        let label = format!("stage {}", architecture.stages[stage].label);
        drawing.text((x, y), r#"font-size="11""#, &label);
        let fill = STAGES[stage % STAGES.len()];
        let (width, height) = draw_module(drawing, polynomial, fill, (x, y + 12.0));
        row_height = row_height.max(height + 12.0);
        right = right.max(x + width);
        bottom = bottom.max(y + 12.0 + height);
        x += width + 2.0 * MARGIN;
    }
    (right, bottom)
}

/// Where each evaluation of a plan stands: its column and its row, both from 0. A block stands
/// below its argument, in the same column where that is free.
fn places(plan: &Plan) -> Vec<(usize, usize)> {
    let mut places: Vec<(usize, usize)> = Vec::new();
    for evaluation in &plan.evaluations {
        let arguments = evaluation
            .input
            .values()
            .iter()
            .filter_map(|value| match value {
                Value::Input => None,
                Value::Evaluation(index) => Some(places[*index]),
            });
        let below = arguments.max_by_key(|(_, row)| *row);
        let row = below.map_or(0, |(_, row)| row + 1);
        let mut column = below.map_or(0, |(column, _)| column);
        while places.contains(&(column, row)) || (row == 0 && places.iter().any(|p| p.0 == column))
        {
            column += 1;
        }
        places.push((column, row));
    }
    places
}

/// One module at a place. Returns its width and height.
fn draw_module(
    drawing: &mut Drawing,
    polynomial: &Polynomial,
    fill: &str,
    (left, top): (f64, f64),
) -> (f64, f64) {
    let plan = polynomial.plan();
    let places = places(&plan);
    let columns = places.iter().map(|place| place.0 + 1).max().unwrap_or(0);
    let rows = places.iter().map(|place| place.1 + 1).max().unwrap_or(0);
    let title = polynomial.name().unwrap_or_default();
    let formula = polynomial.cascaded();
    let width = (columns as f64 * COLUMN + 70.0).max(9.0 * formula.chars().count() as f64);
    drawing.text((left, top + 12.0), r#"font-weight="bold""#, &title);
    drawing.text((left, top + 28.0), "", &formula);
    let source = (left + 14.0, top + 52.0);
    let centre = |index: usize| {
        let (column, row) = places[index];
        let x = left + 70.0 + column as f64 * COLUMN;
        (x, top + 86.0 + row as f64 * ROW)
    };
    let sum = (source.0, top + 86.0 + rows as f64 * ROW + 6.0);
    let origin = |value: &Value| match value {
        Value::Input => (source.0, source.1 + 6.0),
        Value::Evaluation(index) => (centre(*index).0, centre(*index).1 + 15.0),
    };
    drawing.text(source, CENTRED, "x");
    for (index, evaluation) in plan.evaluations.iter().enumerate() {
        let (x, y) = centre(index);
        for value in evaluation.input.values() {
            let (from_x, from_y) = origin(value);
            let middle = (from_y + y - 15.0) / 2.0;
            drawing.path(&format!(
                "M{from_x:.1} {from_y:.1}C{from_x:.1} {middle:.1} {x:.1} {middle:.1} {x:.1} {:.1}",
                y - 15.0
            ));
        }
        drawing.rectangle((x - 18.0, y - 15.0), (36.0, 30.0), fill);
        drawing.text((x, y + 5.0), CENTRED_BOLD, &evaluation.block.to_string());
    }
    for value in plan.output.values() {
        let (x, y) = origin(value);
        let commands = match value {
            Value::Input => format!("M{x:.1} {y:.1}V{:.1}", sum.1 - 11.0),
            // Past the right side of the blocks below, then in from the right.
            Value::Evaluation(_) => format!(
                "M{:.1} {:.1}C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}",
                x + 10.0,
                y,
                x + 34.0,
                y + 24.0,
                x + 16.0,
                sum.1,
                sum.0 + 11.0,
                sum.1
            ),
        };
        drawing.path(&commands);
    }
    let _ = writeln!(
        drawing.body,
        r#"<circle cx="{:.1}" cy="{:.1}" r="10" fill="white" stroke="{INK}"/>"#,
        sum.0, sum.1
    );
    drawing.text((sum.0, sum.1 + 5.0), CENTRED, "+");
    (width, sum.1 + 14.0 - top)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_blocks_stand_in_one_place() {
        for text in [
            "poly-3",
            "3-way",
            "mpoly-3",
            "I + F + GF + HF",
            "I + F(I + G)",
        ] {
            let polynomial: Polynomial = text.parse().unwrap();
            let mut places = places(&polynomial.plan());
            let count = places.len();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), count, "{text}");
        }
    }

    #[test]
    fn a_drawing_has_every_block_of_every_distinct_module_once() {
        let architecture: Architecture = "very-deep-polynet".parse().unwrap();
        let drawing = network(&architecture).unwrap();
        // Stage A: 2-way; stages B and C: poly-3 (three blocks) and 2-way.
        assert_eq!(drawing.matches(r#"width="36.0""#).count(), 2 + 2 * (3 + 2));
        assert!(drawing.starts_with("<svg") && drawing.ends_with("</svg>\n"));
    }
}

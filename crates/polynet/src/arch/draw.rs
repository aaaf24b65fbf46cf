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
const ROW: f64 = 62.0;

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

    fn line(&mut self, commands: &str) {
        let _ = writeln!(
            self.body,
            r#"<path d="{commands}" fill="none" stroke="{INK}"/>"#
        );
    }

    /// A circle with a plus.
    fn sum(&mut self, (x, y): (f64, f64), radius: f64) {
        let arm = radius - 3.0;
        let _ = writeln!(
            self.body,
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="white" stroke="{INK}"/>"#
        );
        self.line(&format!(
            "M{:.1} {y:.1}H{:.1}M{x:.1} {:.1}V{:.1}",
            x - arm,
            x + arm,
            y - arm,
            y + arm
        ));
    }

    /// A line that ends in an arrow.
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
const BOLD: &str = r#"font-weight="bold""#;
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
    let wiring = Wiring::new(&plan, (left, top + 40.0));
    let formula = polynomial.cascaded();
    match polynomial.name() {
        Some(name) => {
            drawing.text((left, top + 12.0), BOLD, &name);
            drawing.text((left, top + 28.0), "", &formula);
        }
        None => drawing.text((left, top + 28.0), BOLD, &formula),
    }
    drawing.text((wiring.x, wiring.top + 12.0), CENTRED, "x");
    for (index, evaluation) in plan.evaluations.iter().enumerate() {
        wiring.draw_argument(drawing, index, evaluation.input.values());
        let (x, y) = wiring.centre(index);
        drawing.rectangle((x - 18.0, y - HALF), (36.0, 2.0 * HALF), fill);
        drawing.text((x, y + 5.0), CENTRED_BOLD, &evaluation.block.to_string());
    }
    wiring.draw_output(drawing, plan.output.values());
    let height = wiring.sum_y() + 14.0 - top;
    (
        wiring.width().max(9.0 * formula.chars().count() as f64),
        height,
    )
}

/// Half the height of a block.
const HALF: f64 = 15.0;

/// Where the lines of a module run: the image's line down the left, one lane right of every column
/// for results that pass the blocks below, and a line at the bottom that leads all into the sum.
struct Wiring {
    places: Vec<(usize, usize)>,
    /// The image's line.
    x: f64,
    top: f64,
}

impl Wiring {
    fn new(plan: &Plan, (left, top): (f64, f64)) -> Self {
        Self {
            places: places(plan),
            x: left + 14.0,
            top,
        }
    }

    fn centre(&self, index: usize) -> (f64, f64) {
        let (column, row) = self.places[index];
        let x = self.x + 56.0 + column as f64 * COLUMN;
        (x, self.top + 52.0 + row as f64 * ROW)
    }

    fn columns(&self) -> usize {
        let ends = self.places.iter().map(|place| place.0 + 1);
        ends.max().unwrap_or(0)
    }

    fn width(&self) -> f64 {
        self.columns() as f64 * COLUMN + 70.0
    }

    fn sum_y(&self) -> f64 {
        let rows = self.places.iter().map(|place| place.1 + 1).max();
        self.top + 52.0 + rows.unwrap_or(0) as f64 * ROW
    }

    /// The height of the line that leads into a block from above.
    fn entry_y(&self, index: usize) -> f64 {
        self.centre(index).1 - HALF - 18.0
    }

    /// The lines into a block. More than one term is added first.
    fn draw_argument(&self, drawing: &mut Drawing, index: usize, terms: &[Value]) {
        let (x, y) = self.centre(index);
        let entry = self.entry_y(index);
        for term in terms {
            let (from_x, from_y) = match *term {
                Value::Input => (self.x, entry),
                Value::Evaluation(source) => {
                    let (x, y) = self.centre(source);
                    (x, y + HALF)
                }
            };
            drawing.line(&format!("M{from_x:.1} {from_y:.1}V{entry:.1}H{x:.1}"));
        }
        drawing.path(&format!("M{x:.1} {entry:.1}V{:.1}", y - HALF));
        if terms.len() > 1 {
            drawing.sum((x, entry), 6.0);
        }
        if terms.contains(&Value::Input) {
            drawing.line(&format!(
                "M{0:.1} {1:.1}V{entry:.1}",
                self.x,
                self.top + 18.0
            ));
        }
    }

    /// The lines into the sum at the bottom.
    fn draw_output(&self, drawing: &mut Drawing, terms: &[Value]) {
        let sum_y = self.sum_y();
        let mut right_end = self.x;
        for term in terms {
            match *term {
                Value::Input => drawing.path(&format!(
                    "M{:.1} {:.1}V{:.1}",
                    self.x,
                    self.top + 18.0,
                    sum_y - 10.0
                )),
                Value::Evaluation(index) => {
                    let (x, y) = self.centre(index);
                    let (column, row) = self.places[index];
                    let is_lowest = !self.places.iter().any(|p| p.0 == column && p.1 > row);
                    let lane = if is_lowest { x } else { x + 30.0 };
                    let start = if is_lowest {
                        format!("M{x:.1} {:.1}", y + HALF)
                    } else {
                        format!("M{:.1} {y:.1}H{lane:.1}", x + 18.0)
                    };
                    drawing.line(&format!("{start}V{sum_y:.1}"));
                    right_end = right_end.max(lane);
                }
            }
        }
        if right_end > self.x {
            drawing.path(&format!("M{right_end:.1} {sum_y:.1}H{:.1}", self.x + 10.0));
        }
        drawing.sum((self.x, sum_y), 10.0);
    }
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

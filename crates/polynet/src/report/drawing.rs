//! Drawings of networks and modules as SVG, in the manner of the paper's figures 3 to 5.
//!
//! On the left the network from the image down to the logits, modules that repeat drawn once with
//! a bracket and their count; on the right each distinct module as its plan evaluates it: the input
//! at the top, every block once, and the sum at the bottom.

mod module;

use self::module::Diagram;
use super::canvas::{Align, Color, Path, Sheet, Style, pen, style};
use super::network::{Group, NetworkReport, PartReport, groups};
use crate::arch::{ArchError, Architecture};
use polynet_algebra::Polynomial;

/// Fills of the stages.
const STAGES: [Color; 4] = [Color::Sky, Color::Amber, Color::Mint, Color::Rose];

const BOX_WIDTH: f64 = 320.0;
const BOX_HEIGHT: f64 = 42.0;
const GAP: f64 = 22.0;
const MARGIN: f64 = 28.0;
/// Pixels right of the boxes for the counts of what repeats.
const COUNTS: f64 = 64.0;
/// Where a row of modules ends.
const RIGHT_END: f64 = 1600.0;

const TEXT: Style = style(13.0, Color::Ink);
const SMALL: Style = style(11.0, Color::Ink);

/// Draws a network.
///
/// # Errors
/// If the input is too small for the network.
pub fn network(architecture: &Architecture) -> Result<String, ArchError> {
    let name = architecture.to_string();
    let report = NetworkReport::new(&name, architecture, 1)?;
    let mut sheet = Sheet::default();
    let bottom = draw_parts(&mut sheet, architecture, &report);
    let (right, modules_bottom) = draw_modules(&mut sheet, architecture);
    Ok(sheet.finish(&name, right + MARGIN, bottom.max(modules_bottom) + MARGIN))
}

/// Draws one module.
pub fn module(polynomial: &Polynomial) -> String {
    let mut sheet = Sheet::default();
    let diagram = Diagram::new(polynomial);
    diagram.draw(&mut sheet, STAGES[0], (MARGIN, MARGIN));
    let (width, height) = diagram.size();
    let label = polynomial.to_string();
    sheet.finish(&label, width + 2.0 * MARGIN, height + 2.0 * MARGIN)
}

/// The fill of a part, by its stage.
fn fill(architecture: &Architecture, part: &PartReport) -> Color {
    let mut stages = architecture.stages.iter();
    let stage = stages.position(|stage| part.name.starts_with(&format!("{}.", stage.name())));
    match (stage, &part.module) {
        (Some(stage), Some(_)) => STAGES[stage % STAGES.len()],
        _ => Color::Stone,
    }
}

/// The column of the network. Returns its lower end.
fn draw_parts(sheet: &mut Sheet, architecture: &Architecture, report: &NetworkReport) -> f64 {
    let centre = MARGIN + BOX_WIDTH / 2.0;
    let centred = TEXT.align(Align::Centre);
    let ink = pen(Color::Ink, 1.0);
    let size = report.input_size;
    sheet.text((centre, MARGIN), &format!("image 3×{size}×{size}"), centred);
    let mut y = MARGIN + 10.0;
    for group in groups(&report.parts) {
        let top = y + GAP;
        for part in group.once() {
            sheet.arrow(ink, &Path::from((centre, y)).to((centre, y + GAP)));
            y += GAP;
            draw_part(sheet, part, fill(architecture, part), y);
            y += BOX_HEIGHT;
        }
        draw_count(sheet, group, (top, y));
    }
    sheet.arrow(ink, &Path::from((centre, y)).to((centre, y + GAP)));
    let logits = format!("{} logits", report.num_classes);
    sheet.text((centre, y + GAP + 10.0), &logits, centred);
    y + GAP + 16.0
}

/// A box with what it computes and what that costs.
fn draw_part(sheet: &mut Sheet, part: &PartReport, fill: Color, top: f64) {
    let (bold, small) = (TEXT.bold().align(Align::Centre), SMALL.align(Align::Centre));
    let centre = MARGIN + BOX_WIDTH / 2.0;
    sheet.rectangle(fill, (MARGIN, top), (BOX_WIDTH, BOX_HEIGHT));
    let title = match &part.module {
        Some(module) => module.written().to_owned(),
        None => part.name.replace('_', " "),
    };
    let title = bold.fitted(&title, BOX_WIDTH - 16.0);
    sheet.text((centre, top + 14.0), &title, bold);
    let [channels, height, width] = part.output_shape;
    let detail = format!(
        "{channels}×{height}×{width}, {:.2} M parameters, {:.0} MMAC",
        part.parameters as f64 / 1e6,
        part.macs as f64 / 1e6
    );
    sheet.text((centre, top + 31.0), &detail, small);
}

/// A bracket beside what repeats, with how often.
fn draw_count(sheet: &mut Sheet, group: Group<'_>, (top, bottom): (f64, f64)) {
    if group.times > 1 {
        let x = MARGIN + BOX_WIDTH + 8.0;
        let bracket = Path::from((x, top))
            .to((x + 6.0, top))
            .to((x + 6.0, bottom));
        sheet.line(pen(Color::Faint, 1.5), &bracket.to((x, bottom)));
        let place = (x + 14.0, (top + bottom) / 2.0);
        sheet.text(place, &format!("× {}", group.times), TEXT.bold());
    }
}

/// The distinct modules beside the network, in rows. Returns their lower right end.
fn draw_modules(sheet: &mut Sheet, architecture: &Architecture) -> (f64, f64) {
    const LABEL: f64 = 18.0;
    let left = MARGIN + BOX_WIDTH + COUNTS + 2.0 * MARGIN;
    let (mut right, mut bottom, mut row) = (left, -MARGIN, MARGIN);
    for (stage, fill) in architecture.stages.iter().zip(STAGES.into_iter().cycle()) {
        let mut drawn: Vec<&Polynomial> = Vec::new();
        let mut x = f64::INFINITY;
        for module in &stage.modules {
            let polynomial = &module.polynomial;
            if drawn.contains(&polynomial) {
                continue;
            }
            drawn.push(polynomial);
            let diagram = Diagram::new(polynomial);
            let (width, height) = diagram.size();
            if x + width > RIGHT_END && x > left {
                (x, row) = (left, bottom + 2.0 * MARGIN);
            }
            let label = format!("stage {}", stage.label);
            sheet.text((x, row), &label, SMALL);
            diagram.draw(sheet, fill, (x, row + LABEL));
            right = right.max(x + width);
            bottom = bottom.max(row + LABEL + height);
            x += width + 2.0 * MARGIN;
        }
    }
    (right, bottom)
}

#[cfg(test)]
mod tests {
    use super::super::canvas::tests::assert_texts_are_apart;
    use super::*;

    fn drawn(text: &str) -> String {
        let drawing = network(&text.parse().unwrap()).unwrap();
        super::super::look(text, &drawing);
        assert_texts_are_apart(&drawing);
        drawing
    }

    #[test]
    fn a_drawing_has_every_block_of_every_distinct_module_once() {
        let drawing = drawn("very-deep-polynet");
        // Stage A: 2-way; stages B and C: poly-3 (three blocks) and 2-way.
        let blocks = drawing.matches(r#"width="36" height="30""#).count();
        assert_eq!(blocks, 2 + 2 * (3 + 2));
        assert!(drawing.starts_with("<svg") && drawing.ends_with("</svg>\n"));
    }

    #[test]
    fn repeated_modules_are_drawn_once_with_their_count() {
        // Stem, two reductions and head; one module in stage A, two in B and in C.
        let drawing = drawn("very-deep-polynet");
        let boxes = drawing.matches(r#"width="320" height="42""#).count();
        assert_eq!(boxes, 4 + 1 + 2 + 2);
        for (count, times) in [("× 10<", 2), ("× 5<", 1)] {
            assert_eq!(drawing.matches(count).count(), times, "{count}");
        }
    }

    #[test]
    fn texts_of_any_network_are_apart() {
        for text in [
            "resnet-50",
            "small-polynet",
            "inception-resnet-v2",
            "ir-3-6-3; B: mpoly-3 -> 3-way -> (I + F)(I + G)(I + H)(I + K) -> I + F(I + G + GF + H)",
        ] {
            drawn(text);
        }
    }
}

//! The drawing of one module as its plan evaluates it.

use super::super::canvas::{Align, Color, Path, Pen, Point, Sheet, pen};
use super::TEXT;
use polynet_algebra::{Plan, Polynomial, Value};

/// Distance of two blocks.
const COLUMN: f64 = 64.0;
const ROW: f64 = 62.0;
/// Half the size of a block.
const HALF: Point = (18.0, 15.0);
/// Pixels above the image's letter: the module's name and its formula.
const HEAD: f64 = 44.0;
/// Pixels of a formula at most.
const LONGEST_FORMULA: f64 = 440.0;
const INK: Pen = pen(Color::Ink, 1.0);

/// A module on a plane of its own: the image's line down the left, one lane right of every column
/// for results that pass the blocks below, and a line at the bottom that leads all into the sum.
pub(super) struct Diagram {
    plan: Plan,
    name: Option<String>,
    formula: String,
    /// The column and the row of each evaluation.
    places: Vec<(usize, usize)>,
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

impl Diagram {
    pub(super) fn new(polynomial: &Polynomial) -> Self {
        let plan = polynomial.plan();
        Self {
            places: places(&plan),
            plan,
            name: polynomial.name(),
            formula: TEXT.bold().fitted(&polynomial.cascaded(), LONGEST_FORMULA),
        }
    }

    /// Width and height.
    pub(super) fn size(&self) -> Point {
        let columns = self.places.iter().map(|(column, _)| column + 1).max();
        let blocks = columns.unwrap_or(0) as f64 * COLUMN + 46.0;
        let width = blocks.max(TEXT.bold().width(&self.formula));
        (width, self.sum((0.0, 0.0)).1 + 12.0)
    }

    /// Draws it with its upper left corner at `corner`.
    pub(super) fn draw(&self, sheet: &mut Sheet, fill: Color, corner: Point) {
        let (left, top) = corner;
        match &self.name {
            Some(name) => {
                sheet.text((left, top + 7.0), name, TEXT.bold());
                sheet.text((left, top + 25.0), &self.formula, TEXT);
            }
            None => sheet.text((left, top + 25.0), &self.formula, TEXT.bold()),
        }
        let (x, y) = self.image(corner);
        sheet.text((x, y - 10.0), "x", TEXT.align(Align::Centre));
        for index in 0..self.places.len() {
            self.draw_argument(sheet, corner, index);
        }
        self.draw_output(sheet, corner);
        // Blocks last, so that they cover the lines' ends.
        for (index, evaluation) in self.plan.evaluations.iter().enumerate() {
            let (x, y) = self.centre(corner, index);
            let size = (2.0 * HALF.0, 2.0 * HALF.1);
            sheet.rectangle(fill, (x - HALF.0, y - HALF.1), size);
            let block = evaluation.block.to_string();
            sheet.text((x, y), &block, TEXT.bold().align(Align::Centre));
        }
    }

    /// Where the image's line begins.
    fn image(&self, (left, top): Point) -> Point {
        (left + 10.0, top + HEAD + 20.0)
    }

    fn centre(&self, corner: Point, index: usize) -> Point {
        let ((x, y), (column, row)) = (self.image(corner), self.places[index]);
        (
            x + 56.0 + column as f64 * COLUMN,
            y + 38.0 + row as f64 * ROW,
        )
    }

    /// The sum at the bottom of the image's line.
    fn sum(&self, corner: Point) -> Point {
        let rows = self.places.iter().map(|(_, row)| row + 1).max();
        let (x, y) = self.image(corner);
        (x, y + 38.0 + rows.unwrap_or(0) as f64 * ROW)
    }

    /// The lines into a block. More than one term is added first.
    fn draw_argument(&self, sheet: &mut Sheet, corner: Point, index: usize) {
        let terms = self.plan.evaluations[index].input.values();
        let (x, y) = self.centre(corner, index);
        let entry = y - HALF.1 - 18.0;
        for term in terms {
            let from = match *term {
                Value::Input => self.image(corner),
                Value::Evaluation(source) => {
                    let (x, y) = self.centre(corner, source);
                    (x, y + HALF.1)
                }
            };
            sheet.line(INK, &Path::from(from).to((from.0, entry)).to((x, entry)));
        }
        sheet.arrow(INK, &Path::from((x, entry)).to((x, y - HALF.1)));
        if terms.len() > 1 {
            plus(sheet, (x, entry), 7.0);
        }
    }

    /// The lines into the sum at the bottom.
    fn draw_output(&self, sheet: &mut Sheet, corner: Point) {
        let sum = self.sum(corner);
        let mut right_end = sum.0;
        for term in self.plan.output.values() {
            match *term {
                Value::Input => {
                    let end = (sum.0, sum.1 - 10.0);
                    sheet.arrow(INK, &Path::from(self.image(corner)).to(end));
                }
                Value::Evaluation(index) => {
                    let (x, y) = self.centre(corner, index);
                    let (column, row) = self.places[index];
                    let is_lowest = !self.places.iter().any(|p| p.0 == column && p.1 > row);
                    let (lane, path) = match is_lowest {
                        true => (x, Path::from((x, y + HALF.1))),
                        false => (x + 30.0, Path::from((x + HALF.0, y)).to((x + 30.0, y))),
                    };
                    sheet.line(INK, &path.to((lane, sum.1)));
                    right_end = right_end.max(lane);
                }
            }
        }
        if right_end > sum.0 {
            sheet.arrow(
                INK,
                &Path::from((right_end, sum.1)).to((sum.0 + 10.0, sum.1)),
            );
        }
        plus(sheet, sum, 10.0);
    }
}

/// A circle with a plus.
fn plus(sheet: &mut Sheet, (x, y): Point, radius: f64) {
    sheet.dot(Color::Ink, (x, y), radius);
    sheet.dot(Color::Paper, (x, y), radius - 1.0);
    let arm = radius - 3.5;
    let across = Path::from((x - arm, y)).to((x + arm, y));
    sheet.line(INK, &across.move_to((x, y - arm)).to((x, y + arm)));
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
}

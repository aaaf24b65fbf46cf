//! The confusion matrix as a picture: what each class was taken for.
//!
//! A row is a true class, a column a predicted one, and the darkness of a cell is its share of the
//! row's images, on a square-root scale so that small confusions show too. Up to 25 classes the
//! cells say their share in per cent; up to 60 the classes have their names; beyond 100, neighbouring
//! classes are joined so that a cell stays visible.

use image::{Rgb, RgbImage};
use std::collections::BTreeMap;

use super::axis::{Axis, Scale, grouped};
use super::canvas::{Align, Color, Path, Point, Sheet, Style, pen, style};
use super::evaluation::{ClassReport, ConfusionMatrix, EvalReport};

const MOST_WITH_NUMBERS: usize = 25;
const MOST_WITH_NAMES: usize = 60;
const MOST_CELLS: usize = 100;
/// Pixels of a class's name at most.
const LONGEST_NAME: f64 = 150.0;
/// Shades between none and all of a row's images.
const SHADES: u8 = 64;

/// Pixels of a picture of the cells alone, at most.
const PICTURE_SIDE: usize = 320;

const MARGIN: f64 = 24.0;
/// Pixels above the cells: title and a line below it.
const HEAD: f64 = 90.0;
/// Pixels right of the cells: the scale of the shades.
const SCALE_WIDTH: f64 = 110.0;

/// Draws the confusion matrix of an evaluation as an SVG.
pub fn confusion_matrix(report: &EvalReport, title: &str) -> String {
    let layout = Layout::new(Grid::new(&report.confusion), &report.classes);
    let mut sheet = Sheet::default();
    let (width, height) = (layout.width(), layout.height());
    let name = style(20.0, Color::Ink);
    let title = name.fitted(title, width - 2.0 * MARGIN);
    sheet.text((MARGIN, 28.0), &title, name);
    let (first, second) = layout.subtitle();
    sheet.text((MARGIN, 52.0), &first, style(13.0, Color::Faint));
    sheet.text((MARGIN, 70.0), &second, style(13.0, Color::Faint));
    layout.cells(&mut sheet);
    layout.labels(&mut sheet);
    layout.shades(&mut sheet);
    sheet.finish(&format!("{title}: {first}"), width, height)
}

/// The cells alone, as pixels: the darker, the larger a cell's share of its row.
pub(super) fn confusion_picture(matrix: &ConfusionMatrix) -> RgbImage {
    let grid = Grid::new(matrix);
    let cell = (PICTURE_SIDE / grid.side().max(1)).max(1);
    let side = (cell * grid.side()) as u32;
    RgbImage::from_fn(side, side, |x, y| {
        let share = grid.share(y as usize / cell, x as usize / cell);
        let light = 1.0 - share.unwrap_or_default().sqrt();
        Rgb([30, 70, 120].map(|dark| (f64::from(dark) + light * f64::from(255 - dark)) as u8))
    })
}

/// The matrix with neighbouring classes joined.
struct Grid {
    /// Classes that one row stands for.
    joined: usize,
    images: u64,
    /// Images whose predicted class is the true one.
    right: u64,
    rows: Vec<Vec<u64>>,
}

impl Grid {
    fn new(matrix: &ConfusionMatrix) -> Self {
        let classes = matrix.classes();
        let joined = classes.div_ceil(MOST_CELLS).max(1);
        let side = classes.div_ceil(joined);
        let mut rows = vec![vec![0; side]; side];
        for truth in 0..classes {
            for (predicted, count) in matrix.row(truth).iter().enumerate() {
                rows[truth / joined][predicted / joined] += count;
            }
        }
        Self {
            joined,
            images: rows.iter().flatten().sum(),
            right: (0..classes).map(|class| matrix.count(class, class)).sum(),
            rows,
        }
    }

    fn side(&self) -> usize {
        self.rows.len()
    }

    /// A cell's share of its row's images; none where the row has none.
    fn share(&self, row: usize, column: usize) -> Option<f64> {
        let images: u64 = self.rows[row].iter().sum();
        (images > 0).then(|| self.rows[row][column] as f64 / images as f64)
    }
}

/// Where everything stands, in pixels.
struct Layout {
    grid: Grid,
    /// The names beside the rows; none where there are too many.
    names: Vec<String>,
    label: Style,
    cell: f64,
    /// Pixels that the longest label takes.
    labels: f64,
}

impl Layout {
    fn new(grid: Grid, classes: &[ClassReport]) -> Self {
        let (cell, size) = match grid.side() {
            0..=12 => (48.0, 13.0),
            13..=MOST_WITH_NUMBERS => (34.0, 13.0),
            26..=MOST_WITH_NAMES => (16.0, 11.0),
            _ => (7.0, 11.0),
        };
        let label = style(size, Color::Ink);
        let name = |class: &ClassReport| label.fitted(&class.name, LONGEST_NAME);
        let names: Vec<String> = match grid.side() {
            0..=MOST_WITH_NAMES => classes.iter().map(name).collect(),
            _ => Vec::new(),
        };
        let widest = names
            .iter()
            .map(|name| label.width(name))
            .fold(40.0, f64::max);
        Self {
            grid,
            names,
            label,
            cell,
            labels: widest + 8.0,
        }
    }

    fn left(&self) -> f64 {
        MARGIN + 22.0 + self.labels
    }

    fn extent(&self) -> f64 {
        self.cell * self.grid.side() as f64
    }

    /// The lower end of the cells.
    fn bottom(&self) -> f64 {
        HEAD + self.extent()
    }

    fn width(&self) -> f64 {
        // The lines below the title need their room too.
        (self.left() + self.extent() + SCALE_WIDTH).max(560.0)
    }

    fn height(&self) -> f64 {
        // At least the scale of the shades, or the title beside the rows.
        (self.bottom() + self.labels + 22.0 + MARGIN).max(HEAD + 160.0 + MARGIN)
    }

    fn subtitle(&self) -> (String, String) {
        let Grid {
            images,
            right,
            joined,
            ..
        } = self.grid;
        let top1 = 100.0 * right as f64 / images as f64;
        let first = match images {
            0 => "no images".to_owned(),
            1 => format!("1 image, top-1 {top1:.2} %"),
            _ => format!("{} images, top-1 {top1:.2} %", grouped(images)),
        };
        let second = match joined {
            1 if self.grid.side() <= MOST_WITH_NUMBERS => {
                "each cell: per cent of the images of its true class".to_owned()
            }
            1 => "each cell: share of the images of its true class".to_owned(),
            _ => format!("each cell: {joined} × {joined} classes, share of the images of its row"),
        };
        (first, second)
    }

    fn corner(&self, row: usize, column: usize) -> Point {
        (
            self.left() + self.cell * column as f64,
            HEAD + self.cell * row as f64,
        )
    }

    /// The cells by their shade, so that a picture of many is no large file.
    fn cells(&self, sheet: &mut Sheet) {
        let side = self.grid.side();
        let gap = if self.cell > 10.0 { 0.5 } else { 0.0 };
        let mut shades: BTreeMap<u8, Path> = BTreeMap::new();
        let mut empty = Path::default();
        let cells = (0..side).flat_map(|row| (0..side).map(move |column| (row, column)));
        for (row, column) in cells.clone() {
            let (x, y) = self.corner(row, column);
            let size = self.cell - 2.0 * gap;
            let path = match self.grid.share(row, column) {
                Some(0.0) => continue,
                Some(share) => shades.entry(shade(share)).or_default(),
                None => &mut empty,
            };
            path.rectangle((x + gap, y + gap), (size, size));
        }
        self.lines(sheet);
        sheet.fill(Color::Grid, 1.0, &empty);
        for (shade, path) in shades {
            sheet.fill(Color::Blue, opacity(shade), &path);
        }
        if side <= MOST_WITH_NUMBERS {
            cells.for_each(|(row, column)| self.number(sheet, row, column));
        }
    }

    /// Lines between the cells, where these are large enough; else around them.
    fn lines(&self, sheet: &mut Sheet) {
        let step = if self.cell > 10.0 {
            1
        } else {
            self.grid.side()
        };
        let (left, right, bottom) = (self.left(), self.left() + self.extent(), self.bottom());
        let mut lines = Path::default();
        for index in (0..=self.grid.side()).step_by(step.max(1)) {
            let (x, y) = self.corner(index, index);
            lines = lines.move_to((x, HEAD)).to((x, bottom));
            lines = lines.move_to((left, y)).to((right, y));
        }
        sheet.line(pen(Color::Grid, 1.0), &lines);
    }

    /// A cell's share in per cent.
    fn number(&self, sheet: &mut Sheet, row: usize, column: usize) {
        let Some(share) = self.grid.share(row, column).filter(|share| *share > 0.0) else {
            return;
        };
        let text = match 100.0 * share {
            per_cent @ 1.0.. => format!("{per_cent:.0}"),
            _ => "<1".to_owned(),
        };
        let color = match opacity(shade(share)) {
            0.0..0.64 => Color::Ink,
            _ => Color::Paper,
        };
        let (x, y) = self.corner(row, column);
        let centre = (x + self.cell / 2.0, y + self.cell / 2.0);
        let size = if self.cell > 40.0 { 14.0 } else { 11.0 };
        sheet.text(centre, &text, style(size, color).align(Align::Centre));
    }

    fn labels(&self, sheet: &mut Sheet) {
        let (left, bottom) = (self.left(), self.bottom());
        for (index, name) in self.names.iter().enumerate() {
            let along = self.cell * (index as f64 + 0.5);
            let (row, column) = ((left - 8.0, HEAD + along), (left + along, bottom + 8.0));
            sheet.text(row, name, self.label.align(Align::Right));
            sheet.text(column, name, self.label.align(Align::UpwardsTo));
        }
        let (mut rows, mut columns) = ("true class", "predicted class");
        if self.grid.side() > MOST_WITH_NAMES {
            (rows, columns) = ("true class, by index", "predicted class, by index");
            self.indices(sheet);
        }
        let middle = self.extent() / 2.0;
        let title = style(14.0, Color::Ink);
        let beside = (MARGIN, HEAD + middle.max(60.0));
        sheet.text(beside, rows, title.align(Align::UpwardsAround));
        let below = (left + middle, bottom + self.labels + 22.0);
        sheet.text(below, columns, title.align(Align::Centre));
    }

    /// Round numbers of classes, where there is no room for names.
    fn indices(&self, sheet: &mut Sheet) {
        let axis = Axis {
            title: "",
            low: 0.0,
            high: (self.grid.side() * self.grid.joined) as f64,
            scale: Scale::Counts,
        };
        let (left, bottom) = (self.left(), self.bottom());
        // A class's place begins at its number and ends at the next one.
        let half = 0.5 * self.cell / self.grid.joined as f64;
        let ticks = axis.ticks_across(self.extent(), self.label).into_iter();
        for tick in ticks.filter(|tick| tick.place < 1.0) {
            let along = tick.place * self.extent() + half;
            let (row, column) = ((left - 8.0, HEAD + along), (left + along, bottom + 14.0));
            sheet.text(row, &tick.label, self.label.align(Align::Right));
            sheet.text(column, &tick.label, self.label.align(Align::Centre));
        }
    }

    /// What the shades mean, right of the cells.
    fn shades(&self, sheet: &mut Sheet) {
        let left = self.left() + self.extent() + 24.0;
        let height = self.extent().clamp(160.0, 320.0);
        let band = height / f64::from(SHADES);
        for shade in 1..=SHADES {
            let mut path = Path::default();
            let y = HEAD + height - band * f64::from(shade);
            path.rectangle((left, y), (16.0, band));
            sheet.fill(Color::Blue, opacity(shade), &path);
        }
        for per_cent in [0.0, 1.0, 5.0, 20.0, 50.0, 100.0] {
            let y = HEAD + height * (1.0 - f64::sqrt(per_cent / 100.0));
            sheet.text(
                (left + 24.0, y),
                &format!("{per_cent} %"),
                style(12.0, Color::Ink),
            );
        }
    }
}

/// The shade of a share, from 0 to [`SHADES`], by its square root: small confusions show too.
fn shade(share: f64) -> u8 {
    (share.clamp(0.0, 1.0).sqrt() * f64::from(SHADES)).round() as u8
}

/// How much of the colour covers the paper.
fn opacity(shade: u8) -> f64 {
    f64::from(shade) / f64::from(SHADES)
}

#[cfg(test)]
mod tests;

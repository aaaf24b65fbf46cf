//! The confusion matrix as a picture: what each class was taken for.
//!
//! A row is a true class, a column a predicted one, and the darkness of a cell is its share of the
//! row's images, on a square-root scale so that small confusions show too. Up to 25 classes the
//! cells say their share in per cent; up to 60 the classes have their names; beyond 100, neighbouring
//! classes are joined so that a cell stays visible.

use plotters::prelude::*;

use super::canvas::{
    Align, Area, FAINT, GRID, INK, PAPER, PlotError, SCALE, font, grouped, px, shortened, svg,
    write,
};
use crate::eval::ConfusionMatrix;

const MOST_WITH_NUMBERS: usize = 25;
const MOST_WITH_NAMES: usize = 60;
const MOST_CELLS: usize = 100;
/// Characters of a class's name at most.
const LONGEST_NAME: usize = 22;

/// Pixels above the cells: title and a line below it.
const HEAD: f64 = 84.0;
/// Pixels right of the cells: the colour scale.
const SCALE_WIDTH: f64 = 110.0;

/// Draws a confusion matrix with the classes' names as an SVG.
///
/// A class without a name goes by its index.
///
/// # Errors
/// When the picture can't be drawn.
pub fn confusion_matrix(
    matrix: &ConfusionMatrix,
    classes: &[String],
    title: &str,
) -> Result<String, PlotError> {
    let grid = Grid::new(matrix);
    let names = names(&grid, classes);
    let layout = Layout::new(&grid, &names);
    svg(layout.width(), layout.height(), |sheet| {
        write(sheet, title, (24.0, 26.0), (font(20.0), INK), Align::Left)?;
        let (first, second) = subtitle(matrix, &grid);
        write(
            sheet,
            &first,
            (24.0, 50.0),
            (font(13.0), FAINT),
            Align::Left,
        )?;
        write(
            sheet,
            &second,
            (24.0, 68.0),
            (font(13.0), FAINT),
            Align::Left,
        )?;
        layout.cells(sheet, &grid)?;
        layout.labels(sheet, &grid, &names)?;
        layout.color_scale(sheet)
    })
}

/// The matrix with neighbouring classes joined.
struct Grid {
    /// Classes that one row stands for.
    joined: usize,
    classes: usize,
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
            classes,
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

/// The names beside the rows; none where there are too many.
fn names(grid: &Grid, classes: &[String]) -> Vec<String> {
    if grid.side() > MOST_WITH_NAMES {
        return Vec::new();
    }
    let name = |class: usize| match classes.get(class) {
        Some(name) => shortened(name, LONGEST_NAME),
        None => class.to_string(),
    };
    (0..grid.side()).map(name).collect()
}

fn subtitle(matrix: &ConfusionMatrix, grid: &Grid) -> (String, String) {
    let classes = 0..matrix.classes();
    let images: u64 = classes.clone().flat_map(|class| matrix.row(class)).sum();
    let right: u64 = classes.map(|class| matrix.count(class, class)).sum();
    let count = grouped(images);
    let top1 = 100.0 * right as f64 / images as f64;
    let first = match images {
        0 => "no images".to_owned(),
        1 => format!("1 image, top-1 {top1:.2} %"),
        _ => format!("{count} images, top-1 {top1:.2} %"),
    };
    let second = match grid.joined {
        1 if grid.side() <= MOST_WITH_NUMBERS => {
            "each cell: per cent of the images of its true class".to_owned()
        }
        1 => "each cell: share of the images of its true class".to_owned(),
        joined => format!(
            "each cell joins {joined} × {joined} neighbouring classes: share of the images of its row"
        ),
    };
    (first, second)
}

/// Where everything stands, in pixels.
struct Layout {
    left: f64,
    cell: f64,
    side: usize,
    bottom: f64,
}

impl Layout {
    fn new(grid: &Grid, names: &[String]) -> Self {
        let side = grid.side();
        let longest = names.iter().map(|name| name.chars().count()).max();
        // Room for the longest name at its font's size, or for the numbers of classes.
        let label = longest.map_or(40.0, |longest| 10.0 + 7.2 * longest as f64);
        Self {
            left: 44.0 + label,
            cell: match side {
                0..=12 => 48.0,
                13..=MOST_WITH_NUMBERS => 34.0,
                26..=MOST_WITH_NAMES => 15.0,
                _ => 7.0,
            },
            side,
            bottom: 34.0 + label,
        }
    }

    fn extent(&self) -> f64 {
        self.cell * self.side as f64
    }

    fn width(&self) -> i32 {
        // The lines below the title need their room too.
        (self.left + self.extent() + SCALE_WIDTH).max(520.0) as i32
    }

    fn height(&self) -> i32 {
        (HEAD + self.extent().max(160.0) + self.bottom) as i32
    }

    fn cells(&self, sheet: &Area<'_>, grid: &Grid) -> Result<(), PlotError> {
        let spaced = self.cell > 10.0;
        let gap = if spaced { 0.5 } else { 0.0 };
        if spaced {
            self.lines(sheet)?;
        }
        for row in 0..grid.side() {
            for column in 0..grid.side() {
                let (x, y) = (
                    self.left + self.cell * column as f64,
                    HEAD + self.cell * row as f64,
                );
                let color = match grid.share(row, column) {
                    Some(0.0) => continue,
                    Some(share) => color_of(share),
                    None => GRID,
                };
                let corners = [
                    (px(x + gap), px(y + gap)),
                    (px(x + self.cell - gap), px(y + self.cell - gap)),
                ];
                sheet.draw(&Rectangle::new(corners, color.filled()))?;
                self.number(sheet, grid, (row, column), (x, y))?;
            }
        }
        if !spaced {
            self.frame(sheet)?;
        }
        Ok(())
    }

    /// Lines between the cells, where these are large enough.
    fn lines(&self, sheet: &Area<'_>) -> Result<(), PlotError> {
        let (right, bottom) = (self.left + self.extent(), HEAD + self.extent());
        let line = GRID.stroke_width(SCALE.unsigned_abs());
        for index in 0..=self.side {
            let along = self.cell * index as f64;
            let (x, y) = (px(self.left + along), px(HEAD + along));
            let vertical = vec![(x, px(HEAD)), (x, px(bottom))];
            let horizontal = vec![(px(self.left), y), (px(right), y)];
            sheet.draw(&PathElement::new(vertical, line))?;
            sheet.draw(&PathElement::new(horizontal, line))?;
        }
        Ok(())
    }

    fn frame(&self, sheet: &Area<'_>) -> Result<(), PlotError> {
        let (left, top) = (px(self.left), px(HEAD));
        let (right, bottom) = (px(self.left + self.extent()), px(HEAD + self.extent()));
        let corners = vec![
            (left, top),
            (right, top),
            (right, bottom),
            (left, bottom),
            (left, top),
        ];
        let line = FAINT.stroke_width(SCALE.unsigned_abs());
        sheet.draw(&PathElement::new(corners, line))?;
        Ok(())
    }

    fn number(
        &self,
        sheet: &Area<'_>,
        grid: &Grid,
        (row, column): (usize, usize),
        (x, y): (f64, f64),
    ) -> Result<(), PlotError> {
        let Some(share) = grid.share(row, column) else {
            return Ok(());
        };
        if self.side > MOST_WITH_NUMBERS {
            return Ok(());
        }
        let per_cent = 100.0 * share;
        let text = if per_cent < 1.0 {
            "<1".to_owned()
        } else {
            format!("{per_cent:.0}")
        };
        let color = if share > 0.25 { PAPER } else { INK };
        let size = if self.cell > 40.0 { 14.0 } else { 11.0 };
        let centre = (x + self.cell / 2.0, y + self.cell / 2.0);
        write(sheet, &text, centre, (font(size), color), Align::Centre)
    }

    fn labels(&self, sheet: &Area<'_>, grid: &Grid, names: &[String]) -> Result<(), PlotError> {
        let (left, bottom) = (self.left, HEAD + self.extent());
        let size = if self.cell > 20.0 { 13.0 } else { 11.0 };
        let style = || (font(size), INK);
        for (index, name) in names.iter().enumerate() {
            let along = self.cell * (index as f64 + 0.5);
            write(
                sheet,
                name,
                (left - 8.0, HEAD + along),
                style(),
                Align::Right,
            )?;
            write(
                sheet,
                name,
                (left + along, bottom + 8.0),
                style(),
                Align::UpwardsTo,
            )?;
        }
        if names.is_empty() {
            for class in round_numbers(grid.classes) {
                let along = self.cell * (class as f64 + 0.5) / grid.joined as f64;
                let text = class.to_string();
                write(
                    sheet,
                    &text,
                    (left - 8.0, HEAD + along),
                    style(),
                    Align::Right,
                )?;
                write(
                    sheet,
                    &text,
                    (left + along, bottom + 14.0),
                    style(),
                    Align::Centre,
                )?;
            }
        }
        let (rows, columns) = if names.is_empty() {
            ("true class, by index", "predicted class, by index")
        } else {
            ("true class", "predicted class")
        };
        let middle = self.extent() / 2.0;
        let style = || (font(14.0), INK);
        write(
            sheet,
            rows,
            (22.0, HEAD + middle),
            style(),
            Align::UpwardsAround,
        )?;
        let below = HEAD + self.extent() + self.bottom - 16.0;
        write(
            sheet,
            columns,
            (left + middle, below),
            style(),
            Align::Centre,
        )
    }

    /// What the colours mean, right of the cells.
    fn color_scale(&self, sheet: &Area<'_>) -> Result<(), PlotError> {
        const BANDS: i32 = 64;
        let left = self.left + self.extent() + 24.0;
        let height = self.extent().clamp(160.0, 320.0);
        let y_at = |share: f64| HEAD + height * (1.0 - share.sqrt());
        for band in 0..BANDS {
            let (from, to) = (
                f64::from(band) / f64::from(BANDS),
                f64::from(band + 1) / f64::from(BANDS),
            );
            let corners = [
                (px(left), px(y_at(to * to))),
                (px(left + 16.0), px(y_at(from * from))),
            ];
            let middle = (from + to) / 2.0;
            sheet.draw(&Rectangle::new(corners, color_of(middle * middle).filled()))?;
        }
        for per_cent in [0.0, 1.0, 5.0, 20.0, 50.0, 100.0] {
            let y = y_at(per_cent / 100.0);
            let text = format!("{per_cent} %");
            write(
                sheet,
                &text,
                (left + 24.0, y),
                (font(12.0), INK),
                Align::Left,
            )?;
        }
        Ok(())
    }
}

/// From white to a dark blue by the square root of the share.
fn color_of(share: f64) -> RGBColor {
    const STOPS: [(f64, f64, f64); 4] = [
        (255.0, 255.0, 255.0),
        (166.0, 206.0, 227.0),
        (33.0, 113.0, 181.0),
        (8.0, 48.0, 107.0),
    ];
    let position = share.clamp(0.0, 1.0).sqrt() * (STOPS.len() - 1) as f64;
    let index = (position as usize).min(STOPS.len() - 2);
    let (from, to, t) = (STOPS[index], STOPS[index + 1], position - index as f64);
    let mix = |from: f64, to: f64| (from + (to - from) * t).round() as u8;
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

/// About ten round class numbers from 0.
fn round_numbers(classes: usize) -> impl Iterator<Item = usize> {
    let steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
    let step = steps
        .into_iter()
        .find(|step| classes / step <= 10)
        .unwrap_or(10_000);
    (0..classes).step_by(step)
}

#[cfg(test)]
mod tests;

//! A chart: two axes and what is drawn between them.
//!
//! Whoever draws a chart says where it may stand, and the chart leaves the room that its own labels
//! need. Its title, which is that of the axis upwards, stands above it and not beside the numbers;
//! the names of its series stand there too, so that nothing covers a line.

use super::axis::{Axis, Tick};
use super::canvas::{Align, Color, Path, Pen, Point, Sheet, Style, pen, style};

const LABEL: Style = style(12.0, Color::Ink);
const TITLE: Style = style(13.0, Color::Ink);
/// Pixels of a tick's mark, and from its end to its label.
const MARK: f64 = 4.0;
const SPACE: f64 = 5.0;
/// Pixels that a line of labels takes, and a line of titles.
const LABELS: f64 = 18.0;
const TITLES: f64 = 24.0;

/// A rectangle of the sheet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// Two axes and where they stand.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    x: Axis,
    y: Axis,
    /// The same values as those of `x` on another scale, above.
    above: Option<Axis>,
    /// All of it.
    outer: Area,
    /// Between the axes.
    inner: Area,
}

/// Values that belong together.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Empty where another series has the name.
    pub(super) name: &'static str,
    pub(super) color: Color,
    pub(super) stroke: Stroke,
    pub(super) points: Vec<Point>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    /// The measured values behind a running mean.
    Faint,
    Strong,
    /// A line through a mark for each value.
    Marked,
    /// The same, thinner: a second measure of the same thing.
    Light,
}

impl Stroke {
    fn pen(self, color: Color) -> Pen {
        match self {
            Self::Faint => Pen {
                opacity: 0.35,
                ..pen(color, 1.0)
            },
            Self::Strong | Self::Marked => pen(color, 2.0),
            Self::Light => pen(color, 1.4),
        }
    }

    /// The radius of a value's mark, where there are few enough to be told apart.
    fn mark(self, values: usize) -> Option<f64> {
        match self {
            Self::Marked if values <= 100 => Some(3.2),
            Self::Light if values <= 100 => Some(2.4),
            // A lone value has no line.
            _ => (values == 1).then_some(3.2),
        }
    }
}

/// Pixels that the labels of an axis take left of a chart that is `height` pixels high.
pub(super) fn labels_width(y: &Axis, height: f64) -> f64 {
    let widths = y
        .ticks_up(height)
        .into_iter()
        .map(|tick| LABEL.width(&tick.label));
    widths.fold(0.0, f64::max) + MARK + SPACE
}

impl Chart {
    /// A chart in `outer`. Its left axis stands `left` pixels inside, or farther where its labels
    /// need that: so that charts below each other can have theirs in one line.
    pub(super) fn new(outer: Area, left: f64, x: Axis, above: Option<Axis>, y: Axis) -> Self {
        let lines_below = if x.title.is_empty() { 0.0 } else { TITLES };
        let mut inner = Area {
            top: outer.top + TITLES + above.as_ref().map_or(0.0, |_| LABELS),
            bottom: outer.bottom - MARK - LABELS - lines_below,
            ..outer
        };
        inner.left += left.max(labels_width(&y, inner.bottom - inner.top));
        // The last label stands around the end of its axis.
        let axes = [Some(&x), above.as_ref()].into_iter().flatten();
        let ticks = axes.flat_map(|axis| axis.ticks_across(inner.right - inner.left, LABEL));
        let widths = ticks.map(|tick| LABEL.width(&tick.label) / 2.0);
        inner.right -= widths.fold(0.0, f64::max);
        Self {
            x,
            y,
            above,
            outer,
            inner,
        }
    }

    /// Where a value stands on the sheet; beyond an axis's end it stands at that end.
    pub(super) fn at(&self, (x, y): Point) -> Point {
        let Area {
            left,
            top,
            right,
            bottom,
        } = self.inner;
        (
            left + (right - left) * self.x.place(x).clamp(0.0, 1.0),
            bottom - (bottom - top) * self.y.place(y).clamp(0.0, 1.0),
        )
    }

    /// What is between the axes.
    pub(super) fn inner(&self) -> Area {
        self.inner
    }

    /// Draws the axes alone.
    pub(super) fn draw_axes(&self, sheet: &mut Sheet) {
        self.draw_up(sheet);
        self.draw_across(sheet);
    }

    /// Draws the chart with its series, the first lowest.
    pub(super) fn draw(&self, sheet: &mut Sheet, series: &[Series]) {
        self.draw_axes(sheet);
        for series in series {
            let points = || series.points.iter().map(|point| self.at(*point));
            sheet.line(series.stroke.pen(series.color), &Path::through(points()));
            if let Some(radius) = series.stroke.mark(series.points.len()) {
                points().for_each(|point| sheet.dot(series.color, point, radius));
            }
        }
        self.draw_names(sheet, series);
    }

    /// The axis upwards with its lines and its title.
    fn draw_up(&self, sheet: &mut Sheet) {
        let Area {
            left,
            top,
            right,
            bottom,
        } = self.inner;
        for Tick { place, label } in self.y.ticks_up(bottom - top) {
            let y = bottom - place * (bottom - top);
            sheet.line(pen(Color::Grid, 1.0), &Path::from((left, y)).to((right, y)));
            let end = (left - MARK - SPACE, y);
            sheet.text(end, &label, LABEL.align(Align::Right));
        }
        let title = (self.outer.left, self.outer.top + 9.0);
        sheet.text(title, self.y.title, TITLE.bold());
    }

    /// The axis below with its title, and the one above.
    fn draw_across(&self, sheet: &mut Sheet) {
        let Area {
            left,
            top,
            right,
            bottom,
        } = self.inner;
        let mut side = |axis: &Axis, y: f64, down: f64, title_y: f64| {
            let mut line = Path::from((left, y)).to((right, y));
            for Tick { place, label } in axis.ticks_across(right - left, LABEL) {
                let x = left + place * (right - left);
                line = line.move_to((x, y)).to((x, y + MARK * down));
                let below = y + down * (MARK + SPACE + 5.0);
                sheet.text((x, below), &label, LABEL.align(Align::Centre));
            }
            sheet.line(pen(Color::Faint, 1.0), &line);
            let title = ((left + right) / 2.0, title_y);
            if !axis.title.is_empty() {
                sheet.text(title, axis.title, TITLE.align(Align::Centre));
            }
        };
        side(&self.x, bottom, 1.0, self.outer.bottom - 9.0);
        if let Some(axis) = &self.above {
            side(axis, top, -1.0, self.outer.top + 9.0);
        }
    }

    /// The names of the series, above the right end of the chart.
    fn draw_names(&self, sheet: &mut Sheet, series: &[Series]) {
        let mut right = self.inner.right;
        let named = |series: &&Series| !series.name.is_empty() && !series.points.is_empty();
        for series in series.iter().rev().filter(named) {
            right = self.draw_name(sheet, right, series.name, |sheet, line, middle| {
                sheet.line(series.stroke.pen(series.color), line);
                if matches!(series.stroke, Stroke::Marked | Stroke::Light) {
                    sheet.dot(series.color, middle, 3.2);
                }
            });
        }
    }

    /// A name above the chart that ends at `right`, after a sample that is drawn along a line and around
    /// its middle; gives where another may end.
    pub(super) fn draw_name(
        &self,
        sheet: &mut Sheet,
        right: f64,
        name: &str,
        sample: impl FnOnce(&mut Sheet, &Path, Point),
    ) -> f64 {
        const SAMPLE: f64 = 24.0;
        let y = self.outer.top + 9.0;
        let left = right - TITLE.width(name);
        sheet.text((left, y), name, TITLE);
        let (from, to) = (left - 7.0 - SAMPLE, left - 7.0);
        let line = Path::from((from, y)).to((to, y));
        sample(sheet, &line, (from + SAMPLE / 2.0, y));
        from - 20.0
    }
}

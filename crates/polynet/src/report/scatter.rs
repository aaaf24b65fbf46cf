//! Networks as named points between what they cost and how often they are wrong.
//!
//! Law: a series has a hue and a shape, so that it is known without colours; a name stands beside its point
//! where it covers no other name and no point, as far as there is such a place.

use super::axis::{Axis, Scale};
use super::canvas::{Align, Color, Path, Pen, Point, Sheet, Style, pen, style};
use super::chart::{Area, Chart};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 350.0;
const NAME: Style = style(12.0, Color::Ink);
/// Pixels from a point's middle to its edge.
const RADIUS: f64 = 4.5;
/// Pixels of a line of names.
const LINE: f64 = 14.0;

/// Two axes and what stands between them.
pub(crate) struct Scatter<'s> {
    /// What it shows, for those who can't see it.
    pub(crate) label: &'s str,
    /// What the axes have, with their units.
    pub(crate) axes: (&'static str, &'static str),
    /// At most three series.
    pub(crate) series: Vec<Marks>,
    pub(crate) lines: Lines,
}

/// Which points are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// Each with the next of its series.
    Series,
    /// Those that no mixture of two others beats in both.
    Hull,
}

/// Points that belong together.
pub(crate) struct Marks {
    pub(crate) name: String,
    pub(crate) marks: Vec<Mark>,
}

/// One network.
pub(crate) struct Mark {
    pub(crate) name: String,
    pub(crate) at: (f64, f64),
    /// Standard deviation upwards, of several seeds.
    pub(crate) sd: Option<f64>,
}

impl Scatter<'_> {
    /// The picture, if there is a point.
    pub(crate) fn draw(&self) -> Option<String> {
        let marks = || self.series.iter().flat_map(|series| &series.marks);
        marks().next()?;
        let ends = |mark: &Mark| {
            let sd = mark.sd.unwrap_or_default();
            [mark.at.1 - sd, mark.at.1 + sd]
        };
        let x = axis(self.axes.0, marks().map(|mark| mark.at.0), 0.16);
        let y = axis(self.axes.1, marks().flat_map(ends), 0.1);
        let area = Area {
            left: 8.0,
            top: 8.0,
            right: WIDTH - 8.0,
            bottom: HEIGHT - 4.0,
        };
        let chart = Chart::new(area, 0.0, x, None, y);
        let mut sheet = Sheet::default();
        chart.draw_axes(&mut sheet);
        self.draw_lines(&mut sheet, &chart);
        let mut taken = Vec::new();
        for (index, series) in self.series.iter().enumerate() {
            for mark in &series.marks {
                draw_mark(&mut sheet, &chart, index, mark, &mut taken);
            }
        }
        for mark in marks().filter(|mark| !mark.name.is_empty()) {
            draw_name(&mut sheet, &chart, mark, &mut taken);
        }
        self.draw_series_names(&mut sheet, &chart);
        Some(sheet.finish(self.label, WIDTH, HEIGHT))
    }

    fn draw_lines(&self, sheet: &mut Sheet, chart: &Chart) {
        let points =
            |series: &Marks| -> Vec<Point> { series.marks.iter().map(|mark| mark.at).collect() };
        let mut line = |color: Color, points: Vec<Point>| {
            let path = Path::through(points.into_iter().map(|point| chart.at(point)));
            let pen = Pen {
                opacity: 0.7,
                ..pen(color, 1.6)
            };
            sheet.line(pen, &path);
        };
        match self.lines {
            Lines::Hull => line(
                Color::Faint,
                hull(self.series.iter().flat_map(points).collect()),
            ),
            Lines::Series => {
                for (index, series) in self.series.iter().enumerate() {
                    line(color(index), points(series));
                }
            }
        }
    }

    fn draw_series_names(&self, sheet: &mut Sheet, chart: &Chart) {
        let mut right = chart.inner().right;
        if self.lines == Lines::Hull {
            right = chart.draw_name(sheet, right, "best trade-offs", |sheet, line, _| {
                sheet.line(pen(Color::Faint, 1.6), line);
            });
        }
        for (index, series) in self.series.iter().enumerate().rev() {
            if !series.name.is_empty() && !series.marks.is_empty() {
                let sample = |sheet: &mut Sheet, _: &Path, middle| shape(sheet, index, middle);
                right = chart.draw_name(sheet, right, &series.name, sample);
            }
        }
    }
}

/// From a little below the least value to a little above the greatest.
fn axis(title: &'static str, values: impl Iterator<Item = f64>, margin: f64) -> Axis {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let span = match high - low {
        span if span > 0.0 => span,
        _ => (0.2 * high.abs()).max(1e-3),
    };
    Axis {
        title,
        low: low - margin * span,
        high: high + margin * span,
        scale: Scale::Linear,
    }
}

fn color(index: usize) -> Color {
    [Color::Blue, Color::Vermillion, Color::Green][index % 3]
}

/// A disc, a square or a diamond.
fn shape(sheet: &mut Sheet, index: usize, (x, y): Point) {
    let square = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)];
    let diamond = [(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)];
    let corners = match index % 3 {
        0 => return sheet.dot(color(index), (x, y), RADIUS),
        1 => square,
        _ => diamond,
    };
    let corners = corners.map(|(right, down)| (x + right * RADIUS, y + down * RADIUS));
    sheet.fill(color(index), 1.0, &Path::through(corners));
}

fn draw_mark(sheet: &mut Sheet, chart: &Chart, index: usize, mark: &Mark, taken: &mut Vec<Area>) {
    let (x, y) = chart.at(mark.at);
    if let Some(sd) = mark.sd {
        let end = |sign: f64| chart.at((mark.at.0, mark.at.1 + sign * sd));
        sheet.line(pen(color(index), 1.2), &Path::from(end(-1.0)).to(end(1.0)));
    }
    shape(sheet, index, (x, y));
    taken.push(Area {
        left: x - RADIUS,
        top: y - RADIUS,
        right: x + RADIUS,
        bottom: y + RADIUS,
    });
}

fn draw_name(sheet: &mut Sheet, chart: &Chart, mark: &Mark, taken: &mut Vec<Area>) {
    let (x, y) = chart.at(mark.at);
    let (half, beside) = (NAME.width(&mark.name) / 2.0, RADIUS + 4.0);
    let (aside, away) = (half + beside, RADIUS + 3.0 + LINE / 2.0);
    let places = [
        (aside, 0.0),
        (-aside, 0.0),
        (0.0, -away),
        (0.0, away),
        (aside, -away),
        (aside, away),
        (-aside, -away),
        (-aside, away),
        (0.0, -away - LINE),
        (0.0, away + LINE),
    ];
    let area = |(right, down): Point| Area {
        left: x + right - half,
        top: y + down - LINE / 2.0,
        right: x + right + half,
        bottom: y + down + LINE / 2.0,
    };
    let fits = |place: &&Point| {
        let own = area(**place);
        let inner = chart.inner();
        own.left >= inner.left
            && own.right <= inner.right + 6.0
            && own.top >= inner.top
            && own.bottom <= inner.bottom
            && !taken.iter().any(|other| overlap(own, *other))
    };
    let place = *places.iter().find(fits).unwrap_or(&places[0]);
    let middle = (x + place.0, y + place.1);
    sheet.text(middle, &mark.name, NAME.align(Align::Centre));
    taken.push(area(place));
}

fn overlap(one: Area, other: Area) -> bool {
    one.left < other.right
        && other.left < one.right
        && one.top < other.bottom
        && other.top < one.bottom
}

/// The points, from the cheapest to the one with the lowest value, below whose line none stands.
fn hull(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|one, other| (one.0.total_cmp(&other.0)).then(one.1.total_cmp(&other.1)));
    let mut hull: Vec<Point> = Vec::new();
    for point in points {
        // What costs more must be better.
        if hull.last().is_some_and(|last| last.1 <= point.1) {
            continue;
        }
        while let [.., first, second] = hull[..] {
            let turn = (second.0 - first.0) * (point.1 - first.1)
                - (second.1 - first.1) * (point.0 - first.0);
            if turn > 0.0 {
                break;
            }
            hull.pop();
        }
        // Of two at one cost the better stands alone.
        if hull.last().is_some_and(|last| last.0 == point.0) {
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::super::look;
    use super::*;

    #[test]
    fn the_hull_has_the_points_that_no_mixture_beats() {
        for (points, expected) in [
            (
                // (2, 6) is above the line from (1, 8) to (3, 3); (4, 3.5) costs more and is worse.
                vec![(4.0, 3.5), (2.0, 6.0), (1.0, 8.0), (3.0, 3.0), (6.0, 2.0)],
                vec![(1.0, 8.0), (3.0, 3.0), (6.0, 2.0)],
            ),
            (vec![(1.0, 5.0), (1.0, 4.0)], vec![(1.0, 4.0)]),
            (vec![(1.0, 5.0), (2.0, 6.0)], vec![(1.0, 5.0)]),
            (vec![], vec![]),
        ] {
            assert_eq!(hull(points), expected);
        }
    }

    #[test]
    fn names_of_points_close_to_each_other_do_not_overlap() {
        let at = [(1.0, 30.0), (1.01, 30.02), (1.02, 29.98), (1.5, 29.0)];
        let marks = at.iter().enumerate();
        let marks = marks.map(|(index, at)| Mark {
            name: format!("mpoly-{index}"),
            at: *at,
            sd: Some(0.1),
        });
        let scatter = Scatter {
            label: "close <points>",
            axes: ("parameters, million", "top-1 error, %"),
            series: vec![Marks {
                name: "B".to_owned(),
                marks: marks.collect(),
            }],
            lines: Lines::Hull,
        };
        let svg = scatter.draw().unwrap();
        look("scatter", &svg);
        assert!(svg.contains("close &lt;points&gt;"));
        let mut places: Vec<(f64, f64)> = Vec::new();
        for line in svg.lines().filter(|line| line.contains(">mpoly-")) {
            let number = |key: &str| -> f64 {
                let rest = line.split(key).nth(1).unwrap();
                rest.split('"').next().unwrap().parse().unwrap()
            };
            places.push((number(" x=\""), number(" y=\"")));
        }
        assert_eq!(places.len(), 4);
        let width = NAME.width("mpoly-0") - 0.1;
        for (index, one) in places.iter().enumerate() {
            for other in &places[..index] {
                let (across, up) = ((one.0 - other.0).abs(), (one.1 - other.1).abs());
                assert!(across >= width || up >= LINE - 0.1, "{places:?}");
            }
        }
        let nothing = Scatter {
            series: Vec::new(),
            ..scatter
        };
        assert_eq!(nothing.draw(), None);
    }
}

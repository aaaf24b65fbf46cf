//! The course of a run: loss, accuracy and learning rate over the steps.
//!
//! Each training record is a faint point of the line; the strong line is their running mean. The
//! names of the lines stand beside the panels, so that nothing covers a line.

mod lines;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use self::lines::{finite, loss_ceiling, running_mean, stairs, thinned};
use super::canvas::{
    Align, Area, BLUE, FAINT, GREEN, GRID, INK, ORANGE, PlotError, SCALE, font, grouped, px, svg,
    write,
};
use crate::train::metrics::{Record, TrainRecord, ValidationRecord};

const WIDTH: i32 = 960;
const HEIGHT: i32 = 900;
/// Pixels beside the panels for the names of the lines.
const LEGEND: i32 = 170;

/// Draws the records of a run, named `title`, as an SVG.
///
/// # Errors
/// When the picture can't be drawn.
pub fn curves(records: &[Record], title: &str) -> Result<String, PlotError> {
    let course = Course::new(records);
    svg(WIDTH, HEIGHT, |sheet| {
        write(sheet, title, (24.0, 26.0), (font(20.0), INK), Align::Left)?;
        let outcome = course.outcome();
        write(
            sheet,
            &outcome,
            (24.0, 50.0),
            (font(13.0), FAINT),
            Align::Left,
        )?;
        let (_, panels) = sheet.split_vertically(px(64.0));
        let (loss, rest) = panels.split_vertically(px(326.0));
        let (accuracy, rate) = rest.split_vertically(px(282.0));
        course.draw(&loss, &course.loss_panel())?;
        course.draw(&accuracy, &course.accuracy_panel())?;
        course.draw(&rate, &course.rate_panel())
    })
}

/// The records by kind.
struct Course {
    train: Vec<TrainRecord>,
    validation: Vec<ValidationRecord>,
    last_step: u64,
    last_epoch: f64,
}

/// One panel: its scale and its lines.
struct Panel {
    label: &'static str,
    /// Whether the epochs stand above it and whether the steps below it have their name.
    place: PanelPlace,
    y: std::ops::Range<f64>,
    y_labels: usize,
    y_text: fn(f64) -> String,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PanelPlace {
    Top,
    Middle,
    Bottom,
}

struct Line {
    name: &'static str,
    color: RGBColor,
    stroke: Stroke,
    points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stroke {
    /// The measured values behind a running mean.
    Faint,
    Strong,
    /// A line through a mark for each value.
    Marked,
    /// The same, thinner: a second measure of the same thing.
    Light,
}

impl Course {
    fn new(records: &[Record]) -> Self {
        let mut course = Self {
            train: Vec::new(),
            validation: Vec::new(),
            last_step: 1,
            last_epoch: 0.0,
        };
        for record in records {
            let (step, epoch) = match record {
                Record::Train(record) => {
                    course.train.push(*record);
                    (record.step, record.epoch)
                }
                Record::Validation(record) => {
                    course.validation.push(*record);
                    (record.step, record.epoch)
                }
                Record::Event(_) => continue,
            };
            if step >= course.last_step {
                (course.last_step, course.last_epoch) = (step, epoch);
            }
        }
        course
    }

    /// What the run has reached, in a line.
    fn outcome(&self) -> String {
        if self.train.is_empty() && self.validation.is_empty() {
            return "no records yet".to_owned();
        }
        let digits = if self.last_epoch < 1.0 { 3 } else { 1 };
        let (steps, epochs) = (grouped(self.last_step), self.last_epoch);
        let mut text = format!("{steps} steps, {epochs:.digits$} epochs");
        let better = |a: &&ValidationRecord, b: &&ValidationRecord| a.top1.total_cmp(&b.top1);
        if let (Some(last), Some(best)) = (
            self.validation.last(),
            self.validation.iter().max_by(better),
        ) {
            let (last, best, at) = (100.0 * last.top1, 100.0 * best.top1, grouped(best.step));
            text += &format!(
                "; validation top-1 {last:.2} % at the end, {best:.2} % at best (step {at})"
            );
        }
        text
    }

    fn train_points(&self, value: fn(&TrainRecord) -> f64) -> Vec<(f64, f64)> {
        finite(self.train.iter().map(|r| (r.step as f64, value(r))))
    }

    fn validation_points(&self, value: fn(&ValidationRecord) -> f64) -> Vec<(f64, f64)> {
        finite(self.validation.iter().map(|r| (r.step as f64, value(r))))
    }

    fn loss_panel(&self) -> Panel {
        let raw = self.train_points(|r| r.loss);
        let smooth = running_mean(&raw);
        let validation = self.validation_points(|r| r.loss);
        let top = loss_ceiling(&raw, &[&smooth, &validation]);
        // A spike above the ceiling is cut off there, so that the rest stays readable.
        let raw = raw.into_iter().map(|(x, y)| (x, y.min(top))).collect();
        Panel {
            label: "loss (nats per image)",
            place: PanelPlace::Top,
            y: 0.0..top,
            y_labels: 6,
            y_text: plain,
            lines: vec![
                Line::new("", BLUE, Stroke::Faint, raw),
                Line::new("training", BLUE, Stroke::Strong, smooth),
                Line::new("validation", ORANGE, Stroke::Marked, validation),
            ],
        }
    }

    fn accuracy_panel(&self) -> Panel {
        let raw = self.train_points(|r| 100.0 * r.top1);
        Panel {
            label: "accuracy (%)",
            place: PanelPlace::Middle,
            y: 0.0..100.0,
            y_labels: 6,
            y_text: plain,
            lines: vec![
                Line::new("", BLUE, Stroke::Faint, raw.clone()),
                Line::new("training top-1", BLUE, Stroke::Strong, running_mean(&raw)),
                Line::new(
                    "validation top-5",
                    GREEN,
                    Stroke::Light,
                    self.validation_points(|r| 100.0 * r.top5),
                ),
                Line::new(
                    "validation top-1",
                    ORANGE,
                    Stroke::Marked,
                    self.validation_points(|r| 100.0 * r.top1),
                ),
            ],
        }
    }

    /// Logarithmic where the rate falls by steps, so that each of them shows; else linear.
    fn rate_panel(&self) -> Panel {
        let rates = self.train_points(|r| r.learning_rate);
        let (low, high) = rates
            .iter()
            .fold((f64::MAX, 0.0_f64), |(low, high), (_, rate)| {
                (low.min(*rate), high.max(*rate))
            });
        let mut levels: Vec<f64> = rates.iter().map(|(_, rate)| *rate).collect();
        levels.sort_by(f64::total_cmp);
        levels.dedup();
        let falls_by_steps =
            levels.len() < rates.len().div_ceil(3) && low > 0.0 && high > 5.0 * low;
        let (y, y_text, points): (_, fn(f64) -> String, _) = if falls_by_steps {
            let logarithms: Vec<_> = rates.iter().map(|(x, rate)| (*x, rate.log10())).collect();
            let range = (low.log10() - 0.3).floor()..(high.log10() + 0.1).ceil();
            (range, power_of_ten, stairs(&logarithms))
        } else {
            let top = if high > 0.0 { 1.08 * high } else { 1.0 };
            (0.0..top, plain as fn(f64) -> String, rates)
        };
        Panel {
            label: "learning rate",
            place: PanelPlace::Bottom,
            y,
            y_labels: if falls_by_steps { 8 } else { 4 },
            y_text,
            lines: vec![Line::new("", INK, Stroke::Strong, points)],
        }
    }

    fn draw(&self, area: &Area<'_>, panel: &Panel) -> Result<(), PlotError> {
        let (width, _) = area.dim_in_pixel();
        let (plot, legend) = area.split_horizontally(width.cast_signed() - LEGEND * SCALE);
        let last = self.last_step as f64;
        let x = 0.0..last * 1.005;
        let chart = ChartBuilder::on(&plot)
            .margin_left(px(10.0))
            .margin_right(px(6.0))
            .margin_top(px(if panel.place == PanelPlace::Top {
                2.0
            } else {
                10.0
            }))
            .margin_bottom(px(6.0))
            .set_label_area_size(LabelAreaPosition::Left, px(62.0))
            .set_label_area_size(
                LabelAreaPosition::Bottom,
                px(match panel.place {
                    PanelPlace::Bottom => 44.0,
                    _ => 22.0,
                }),
            )
            .set_label_area_size(
                LabelAreaPosition::Top,
                px(match panel.place {
                    PanelPlace::Top => 42.0,
                    _ => 0.0,
                }),
            )
            .build_cartesian_2d(x, panel.y.clone())?;
        // The second scale takes the label area above the panel before the first one draws there.
        let epochs = 0.0..(self.last_epoch * 1.005).max(f64::MIN_POSITIVE);
        let mut chart = chart.set_secondary_coord(epochs, 0.0..1.0);
        mesh(&mut chart, panel)?;
        if panel.place == PanelPlace::Top {
            epoch_axis(&mut chart)?;
        }
        for line in &panel.lines {
            draw_line(&mut chart, line)?;
        }
        name_lines(&legend, panel)
    }
}

type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type DualChart<'a, 'b> = plotters::chart::DualCoordChartContext<
    'b,
    SVGBackend<'a>,
    Cartesian2d<RangedCoordf64, RangedCoordf64>,
    Cartesian2d<RangedCoordf64, RangedCoordf64>,
>;

fn mesh(chart: &mut Chart<'_, '_>, panel: &Panel) -> Result<(), PlotError> {
    let mut mesh = chart.configure_mesh();
    let y_text = |value: &f64| (panel.y_text)(*value);
    let x_text = |value: &f64| grouped(value.max(0.0).round() as u64);
    mesh.x_labels(8)
        .y_labels(panel.y_labels)
        .max_light_lines(0)
        .bold_line_style(GRID.stroke_width(SCALE.unsigned_abs()))
        .axis_style(FAINT.stroke_width(SCALE.unsigned_abs()))
        .set_all_tick_mark_size(px(4.0))
        .label_style(font(12.0).color(&INK))
        .axis_desc_style(font(13.0).color(&INK))
        .x_label_formatter(&x_text)
        .y_label_formatter(&y_text)
        .y_desc(panel.label);
    if panel.place == PanelPlace::Bottom {
        mesh.x_desc("step");
    }
    mesh.draw()?;
    Ok(())
}

fn epoch_axis(chart: &mut DualChart<'_, '_>) -> Result<(), PlotError> {
    chart
        .configure_secondary_axes()
        .x_labels(8)
        .axis_style(FAINT.stroke_width(SCALE.unsigned_abs()))
        .set_all_tick_mark_size(px(4.0))
        .label_style(font(12.0).color(&INK))
        .axis_desc_style(font(13.0).color(&INK))
        .x_label_formatter(&|epoch: &f64| plain(*epoch))
        .x_desc("epoch")
        .draw()?;
    Ok(())
}

fn draw_line(chart: &mut Chart<'_, '_>, line: &Line) -> Result<(), PlotError> {
    let width = |pixels: f64| px(pixels).unsigned_abs();
    let style = match line.stroke {
        Stroke::Faint => line.color.mix(0.28).stroke_width(width(1.0)),
        Stroke::Strong | Stroke::Marked => line.color.stroke_width(width(2.0)),
        Stroke::Light => line.color.stroke_width(width(1.4)),
    };
    chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
    // Marks that would touch each other say nothing more than the line; a lone point needs one.
    let marked = matches!(line.stroke, Stroke::Marked | Stroke::Light);
    if line.points.len() == 1 || (marked && line.points.len() <= 100) {
        let radius = if line.stroke == Stroke::Light {
            2.2
        } else {
            3.0
        };
        let mark = |point: &(f64, f64)| Circle::new(*point, px(radius), line.color.filled());
        chart.draw_series(line.points.iter().map(mark))?;
    }
    Ok(())
}

/// The names of a panel's lines, beside it.
fn name_lines(area: &Area<'_>, panel: &Panel) -> Result<(), PlotError> {
    let top = if panel.place == PanelPlace::Top {
        58.0
    } else {
        24.0
    };
    let named = panel
        .lines
        .iter()
        .filter(|line| !line.name.is_empty() && !line.points.is_empty());
    for (index, line) in named.enumerate() {
        let y = top + 22.0 * index as f64;
        let stroke = line.color.stroke_width(px(2.5).unsigned_abs());
        let sample = vec![(px(8.0), px(y)), (px(32.0), px(y))];
        area.draw(&PathElement::new(sample, stroke))?;
        if matches!(line.stroke, Stroke::Marked | Stroke::Light) {
            area.draw(&Circle::new(
                (px(20.0), px(y)),
                px(3.5),
                line.color.filled(),
            ))?;
        }
        write(area, line.name, (40.0, y), (font(13.0), INK), Align::Left)?;
    }
    Ok(())
}

impl Line {
    fn new(name: &'static str, color: RGBColor, stroke: Stroke, points: Vec<(f64, f64)>) -> Self {
        Self {
            name,
            color,
            stroke,
            points: thinned(points),
        }
    }
}

/// A number with no more digits than it needs.
fn plain(value: f64) -> String {
    let text = if value != 0.0 && value.abs() < 1e-3 {
        format!("{value:.1e}")
    } else {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    text.replace('-', "−")
}

fn power_of_ten(exponent: f64) -> String {
    let value = 10.0_f64.powf(exponent);
    let digits = if exponent.fract().abs() < 1e-9 { 0 } else { 1 };
    match exponent {
        -3.0..0.0 => plain((value * 1e4).round() / 1e4),
        0.0..4.0 => plain((value * 10.0).round() / 10.0),
        _ => format!("{value:.digits$e}").replace('-', "−"),
    }
}

#[cfg(test)]
mod tests;

//! The course of a run: loss, accuracy and learning rate over the steps.
//!
//! Each training record is a faint point of the line; the strong line is their running mean.

mod lines;

use self::lines::{finite, loss_ceiling, running_mean, stairs, thinned};
use super::axis::{Axis, Scale, grouped};
use super::canvas::{Color, Sheet, style};
use super::chart::{Area, Chart, Series, Stroke, labels_width};
use super::metrics::{Record, TrainRecord, ValidationRecord};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 860.0;
const MARGIN: f64 = 24.0;

/// Draws the records of a run, named `title`, as an SVG.
pub fn curves(records: &[Record], title: &str) -> String {
    let course = Course::new(records);
    let mut sheet = Sheet::default();
    let (name, outcome) = (style(20.0, Color::Ink), course.outcome());
    let title = name.fitted(title, WIDTH - 2.0 * MARGIN);
    sheet.text((MARGIN, 28.0), &title, name);
    sheet.text((MARGIN, 52.0), &outcome, style(13.0, Color::Faint));
    let panels = [
        course.loss_panel(),
        course.accuracy_panel(),
        course.rate_panel(),
    ];
    let heights = [324.0, 270.0, 190.0];
    let labels = panels.iter().zip(heights);
    let left = labels
        .map(|(panel, height)| labels_width(&panel.y, height))
        .fold(0.0, f64::max);
    let mut top = 76.0;
    for (index, (panel, height)) in panels.into_iter().zip(heights).enumerate() {
        let is_last = index == heights.len() - 1;
        let area = Area {
            left: MARGIN,
            top,
            right: WIDTH - 6.0,
            bottom: top + height - 12.0,
        };
        let steps = course.steps(if is_last { "step" } else { "" });
        let epochs = (index == 0).then(|| course.epochs()).flatten();
        Chart::new(area, left, steps, epochs, panel.y).draw(&mut sheet, &panel.series);
        top += height;
    }
    sheet.finish(&format!("{title}: {outcome}"), WIDTH, HEIGHT)
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
    y: Axis,
    series: Vec<Series>,
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

    fn steps(&self, title: &'static str) -> Axis {
        Axis {
            title,
            low: 0.0,
            high: self.last_step as f64,
            scale: Scale::Counts,
        }
    }

    fn epochs(&self) -> Option<Axis> {
        (self.last_epoch > 0.0).then(|| linear("epoch", self.last_epoch))
    }

    fn loss_panel(&self) -> Panel {
        let raw = self.train_points(|r| r.loss);
        let smooth = running_mean(&raw);
        let validation = self.validation_points(|r| r.loss);
        // A spike above the ceiling is cut off there, so that the rest stays readable.
        let top = loss_ceiling(&raw, &[&smooth, &validation]);
        Panel {
            y: linear("loss (nats per image)", top),
            series: vec![
                series("", Color::Blue, Stroke::Faint, raw),
                series("training", Color::Blue, Stroke::Strong, smooth),
                series("validation", Color::Vermillion, Stroke::Marked, validation),
            ],
        }
    }

    fn accuracy_panel(&self) -> Panel {
        let raw = self.train_points(|r| 100.0 * r.top1);
        let smooth = running_mean(&raw);
        let top1 = self.validation_points(|r| 100.0 * r.top1);
        let top5 = self.validation_points(|r| 100.0 * r.top5);
        Panel {
            y: linear("accuracy (%)", 100.0),
            series: vec![
                series("", Color::Blue, Stroke::Faint, raw),
                series("training top-1", Color::Blue, Stroke::Strong, smooth),
                series("validation top-5", Color::Green, Stroke::Light, top5),
                series("validation top-1", Color::Vermillion, Stroke::Marked, top1),
            ],
        }
    }

    /// Logarithmic where the rate falls by steps, so that each of them shows; else linear.
    fn rate_panel(&self) -> Panel {
        let rates = self.train_points(|r| r.learning_rate);
        let values = rates.iter().map(|(_, rate)| *rate);
        let (low, high) = values.fold((f64::MAX, 0.0_f64), |(low, high), rate| {
            (low.min(rate), high.max(rate))
        });
        let mut levels: Vec<f64> = rates.iter().map(|(_, rate)| *rate).collect();
        levels.sort_by(f64::total_cmp);
        levels.dedup();
        let falls_by_steps =
            levels.len() < rates.len().div_ceil(3) && low > 0.0 && high > 5.0 * low;
        let (y, rates) = match falls_by_steps {
            true => {
                let y = Axis {
                    title: RATE,
                    low: low / 2.0,
                    high: high * 1.5,
                    scale: Scale::Logarithmic,
                };
                (y, stairs(&rates))
            }
            false => (
                linear(RATE, if high > 0.0 { 1.08 * high } else { 1.0 }),
                rates,
            ),
        };
        Panel {
            y,
            series: vec![series("", Color::Ink, Stroke::Strong, rates)],
        }
    }
}

const RATE: &str = "learning rate";

/// From 0 to `high`.
fn linear(title: &'static str, high: f64) -> Axis {
    Axis {
        title,
        low: 0.0,
        high,
        scale: Scale::Linear,
    }
}

fn series(name: &'static str, color: Color, stroke: Stroke, points: Vec<(f64, f64)>) -> Series {
    Series {
        name,
        color,
        stroke,
        points: thinned(points),
    }
}

#[cfg(test)]
mod tests;

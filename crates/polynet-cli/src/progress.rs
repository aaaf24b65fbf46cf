//! Progress on stderr: a bar where it is a terminal, plain lines now and then where it is not.
//!
//! ```text
//! 1240/5000 ███████░░░░░░░░░  epoch 3.2  loss 1.203  top-1 56.1 %  812 images/s  3 min 20 s left
//! ```
//!
//! Nobody reading stderr is no reason to stop a run, so a failed write is ignored.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use polynet::report::ValidationRecord;
use polynet::train::progress::{Progress, RunStart, StepReport, Warning};

/// Seconds between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress that suits stderr.
pub(crate) fn on_stderr() -> Box<dyn Progress> {
    if io::stderr().is_terminal() {
        Box::new(Bar::new())
    } else {
        Box::new(Lines::new(io::stderr(), LINE_EVERY))
    }
}

/// How fast the run goes since it was started or resumed.
struct Pace {
    first_step: u64,
    total_steps: u64,
    begun: Instant,
}

impl Pace {
    fn new(run: &RunStart, now: Instant) -> Self {
        Self {
            first_step: run.step,
            total_steps: run.total_steps,
            begun: now,
        }
    }

    /// Time to the end at the pace so far, validations included; none before the first step.
    fn time_left(&self, step: u64, now: Instant) -> Option<Duration> {
        let done = step.checked_sub(self.first_step).filter(|done| *done > 0)?;
        let left = self.total_steps.saturating_sub(step);
        let elapsed = now.saturating_duration_since(self.begun);
        Duration::try_from_secs_f64(elapsed.as_secs_f64() * left as f64 / done as f64).ok()
    }
}

/// `3 min 20 s`, in the two largest units.
pub(crate) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} min")
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

pub(crate) fn started(run: &RunStart) -> String {
    let RunStart {
        name,
        step,
        total_steps,
        epoch_steps,
        batch_size,
    } = run;
    let from = match step {
        0 => String::new(),
        step => format!(", resumed after step {step}"),
    };
    format!("{name}: {total_steps} steps of {batch_size} images, {epoch_steps} an epoch{from}")
}

pub(crate) fn measured(report: &StepReport, left: Option<Duration>) -> String {
    let top1 = 100.0 * report.top1;
    let mut text = format!(
        "epoch {:.1}  loss {:.3}  top-1 {top1:.1} %  {:.0} images/s",
        report.epoch, report.loss, report.images_per_s
    );
    if let Some(left) = left {
        text += &format!("  {} left", in_words(left));
    }
    text
}

pub(crate) fn validated(scores: &ValidationRecord) -> String {
    format!(
        "step {}  epoch {:.1}  validation: loss {:.4}  top-1 {:.2} %  top-5 {:.2} %",
        scores.step,
        scores.epoch,
        scores.loss,
        100.0 * scores.top1,
        100.0 * scores.top5
    )
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{pos}/{len} {wide_bar}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▌░")
}

/// How far a count has come.
pub(crate) struct Count {
    what: &'static str,
    pace: Pace,
    bar: ProgressBar,
    last: Instant,
}

impl Count {
    /// From `done` to `total`.
    pub(crate) fn new(what: &'static str, done: usize, total: usize) -> Self {
        let begun = Instant::now();
        let (first_step, total_steps) = (done as u64, total as u64);
        let bar = ProgressBar::new(total_steps)
            .with_style(bar_style())
            .with_position(first_step);
        Self {
            what,
            pace: Pace {
                first_step,
                total_steps,
                begun,
            },
            bar,
            last: begun,
        }
    }

    pub(crate) fn reach(&mut self, done: usize) {
        let (now, done) = (Instant::now(), done as u64);
        let elapsed = now.saturating_duration_since(self.pace.begun).as_secs_f64();
        let rate = done.saturating_sub(self.pace.first_step) as f64 / elapsed.max(1e-9);
        let mut text = format!("{rate:.0} {}/s", self.what);
        if let Some(left) = self.pace.time_left(done, now) {
            text += &format!("  {} left", in_words(left));
        }
        if self.bar.is_hidden() && now.saturating_duration_since(self.last) >= LINE_EVERY {
            self.last = now;
            write_line(
                &mut io::stderr(),
                &format!("{done}/{}  {text}", self.pace.total_steps),
            );
        }
        self.bar.set_message(text);
        self.bar.set_position(done);
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// A bar that is redrawn in place; lasting lines stand above it.
struct Bar {
    bar: ProgressBar,
    pace: Option<Pace>,
}

impl Bar {
    fn new() -> Self {
        // Hidden until there is a run: messages before it are plain lines.
        Self {
            bar: ProgressBar::hidden(),
            pace: None,
        }
    }

    fn line(&self, text: &str) {
        // The bar's own `println` says nothing while it is hidden.
        self.bar.suspend(|| write_line(&mut io::stderr(), text));
    }
}

fn write_line(out: &mut impl Write, text: &str) {
    let _ = writeln!(out, "{text}");
}

impl Progress for Bar {
    fn started(&mut self, run: &RunStart) {
        self.line(&started(run));
        self.pace = Some(Pace::new(run, Instant::now()));
        self.bar =
            ProgressBar::with_draw_target(Some(run.total_steps), ProgressDrawTarget::stderr())
                .with_style(bar_style())
                .with_position(run.step);
    }

    fn step(&mut self, report: &StepReport) {
        let now = Instant::now();
        let pace = self.pace.as_ref();
        let left = pace.and_then(|pace| pace.time_left(report.step, now));
        self.bar.set_message(measured(report, left));
        self.bar.set_position(report.step);
    }

    fn validating(&mut self, done: u64, total: u64) {
        self.bar.set_message(format!("validating {done}/{total}"));
    }

    fn validation(&mut self, scores: &ValidationRecord) {
        self.line(&validated(scores));
    }

    fn message(&mut self, text: &str) {
        self.line(text);
    }

    fn warning(&mut self, warning: &Warning) {
        self.line(&format!("warning: {warning}"));
    }

    fn finished(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line now and then, for a log file.
struct Lines<W> {
    out: W,
    every: Duration,
    last: Option<Instant>,
    pace: Option<Pace>,
}

impl<W: Write> Lines<W> {
    fn new(out: W, every: Duration) -> Self {
        Self {
            out,
            every,
            last: None,
            pace: None,
        }
    }

    fn line(&mut self, text: &str) {
        write_line(&mut self.out, text);
    }

    fn step_at(&mut self, report: &StepReport, now: Instant) {
        let total_steps = self.pace.as_ref().map_or(0, |pace| pace.total_steps);
        let waited = |last| now.saturating_duration_since(last) >= self.every;
        if report.step < total_steps && !self.last.is_none_or(waited) {
            return;
        }
        self.last = Some(now);
        let pace = self.pace.as_ref();
        let left = pace.and_then(|pace| pace.time_left(report.step, now));
        let (step, measured) = (report.step, measured(report, left));
        self.line(&format!("step {step}/{total_steps}  {measured}"));
    }
}

impl<W: Write> Progress for Lines<W> {
    fn started(&mut self, run: &RunStart) {
        self.line(&started(run));
        self.pace = Some(Pace::new(run, Instant::now()));
    }

    fn step(&mut self, report: &StepReport) {
        self.step_at(report, Instant::now());
    }

    fn validation(&mut self, scores: &ValidationRecord) {
        self.line(&validated(scores));
    }

    fn message(&mut self, text: &str) {
        self.line(text);
    }

    fn warning(&mut self, warning: &Warning) {
        self.line(&format!("warning: {warning}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(step: u64) -> RunStart {
        RunStart {
            name: "photos".to_owned(),
            step,
            total_steps: 100,
            epoch_steps: 10,
            batch_size: 64,
        }
    }

    fn report(step: u64) -> StepReport {
        StepReport {
            step,
            epoch: step as f64 / 10.0,
            loss: 1.25,
            top1: 0.5,
            images_per_s: 812.4,
        }
    }

    #[test]
    fn plain_lines_come_at_most_every_so_often_and_at_the_end() {
        let mut lines = Lines::new(Vec::new(), Duration::from_secs(10));
        lines.started(&run(0));
        let begun = lines.pace.as_ref().unwrap().begun;
        for step in 1..=100 {
            lines.step_at(&report(step), begun + Duration::from_secs(step));
        }
        let text = String::from_utf8(lines.out).unwrap();
        let steps: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("step "))
            .collect();
        let numbers: Vec<_> = steps
            .iter()
            .filter_map(|line| line.split('/').next())
            .collect();
        assert_eq!(
            numbers,
            [
                "1", "11", "21", "31", "41", "51", "61", "71", "81", "91", "100"
            ]
        );
        assert_eq!(
            steps[1],
            "11/100  epoch 1.1  loss 1.250  top-1 50.0 %  812 images/s  1 min 29 s left"
        );
        assert!(text.starts_with("photos: 100 steps of 64 images, 10 an epoch\n"));
    }

    #[test]
    fn the_pace_of_a_resumed_run_is_its_own() {
        let now = Instant::now();
        let pace = Pace::new(&run(60), now);
        let later = now + Duration::from_secs(30);
        // 10 steps took 30 s, so 30 more take 90 s.
        assert_eq!(pace.time_left(70, later), Some(Duration::from_secs(90)));
        assert_eq!(pace.time_left(60, later), None);
        assert_eq!(pace.time_left(100, later), Some(Duration::ZERO));
        assert!(started(&run(60)).ends_with("resumed after step 60"));
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (200, "3 min 20 s"),
            (3_660, "1 h 1 min"),
            (200_000, "2 d 7 h"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn warnings_and_validations_are_lines() {
        let mut lines = Lines::new(Vec::new(), LINE_EVERY);
        lines.warning(&Warning::Interrupted { step: 7 });
        lines.validation(&ValidationRecord {
            step: 20,
            epoch: 2.0,
            loss: 1.5,
            top1: 0.4,
            top5: 0.9,
        });
        assert_eq!(
            String::from_utf8(lines.out).unwrap(),
            "warning: interrupted after step 7, the checkpoint is saved; continue with --resume\n\
             step 20  epoch 2.0  validation: loss 1.5000  top-1 40.00 %  top-5 90.00 %\n"
        );
    }

    #[test]
    fn a_closed_stderr_stops_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut lines = Lines::new(Closed, Duration::ZERO);
        lines.started(&run(0));
        lines.step(&report(1));
        lines.finished();
        assert!(lines.last.is_some());
    }
}

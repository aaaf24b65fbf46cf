//! What an evaluation finds: as data, as JSON and as a table.

use std::fmt;

use serde::Serialize;

/// How often each class was taken for each: a row for the true class, a column for the predicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "Vec<Vec<u64>>")]
pub struct ConfusionMatrix {
    classes: usize,
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// Counts one image of class `truth` that was taken for `predicted`; both below the number of
    /// classes.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[truth * self.classes + predicted] += 1;
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How often `truth` was taken for `predicted`.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.row(truth)[predicted]
    }

    /// All counts, row by row.
    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All counts, row by row, to add those of other images.
    pub(crate) fn counts_mut(&mut self) -> &mut [u64] {
        &mut self.counts
    }

    /// What the images of class `truth` were taken for.
    pub fn row(&self, truth: usize) -> &[u64] {
        &self.counts[truth * self.classes..(truth + 1) * self.classes]
    }
}

impl From<ConfusionMatrix> for Vec<Vec<u64>> {
    fn from(matrix: ConfusionMatrix) -> Self {
        (0..matrix.classes)
            .map(|class| matrix.row(class).to_vec())
            .collect()
    }
}

/// The scores of a whole data set. Shares are from 0 to 1, and none where there was no image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalReport {
    /// Images scored.
    pub images: u64,
    /// Mean cross-entropy per image, in nats.
    pub loss: Option<f64>,
    /// Share of images whose best class is right.
    pub top1: Option<f64>,
    /// Share of images with the right class among the best five (or all, where there are fewer).
    pub top5: Option<f64>,
    /// Each class, in the model's order.
    pub classes: Vec<ClassReport>,
    /// Rows: the true class; columns: the predicted.
    pub confusion: ConfusionMatrix,
}

/// The scores of the images of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassReport {
    /// The class.
    pub name: String,
    /// Its images.
    pub images: u64,
    /// Those whose best class is right.
    pub correct: u64,
    /// `correct` of `images`.
    pub top1: Option<f64>,
    /// Share with the right class among the best five.
    pub top5: Option<f64>,
}

/// A table: the totals, then a line for each class with what it is most often taken for.
impl fmt::Display for EvalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loss = self
            .loss
            .map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"));
        writeln!(f, "images  {:>9}", self.images)?;
        writeln!(f, "loss    {loss:>9}")?;
        writeln!(f, "top-1   {:>9}", percent(self.top1))?;
        writeln!(f, "top-5   {:>9}", percent(self.top5))?;
        writeln!(f)?;
        let width = |name: &str| name.chars().count();
        let names = self.classes.iter().map(|class| width(&class.name));
        let name_width = names.max().unwrap_or(0).max("class".len());
        writeln!(
            f,
            "{:name_width$}  {:>7}  {:>7}  {:>8}  {:>8}  most often taken for",
            "class", "images", "correct", "top-1", "top-5"
        )?;
        for (index, class) in self.classes.iter().enumerate() {
            let line = format!(
                "{:name_width$}  {:>7}  {:>7}  {:>8}  {:>8}  {}",
                class.name,
                class.images,
                class.correct,
                percent(class.top1),
                percent(class.top5),
                self.taken_for(index)
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl EvalReport {
    /// The content of `report.json`.
    pub(super) fn to_json(&self) -> String {
        // A report has no map, so it always has a text.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The wrong class that `class` is most often taken for, with its share of the class's images.
    fn taken_for(&self, class: usize) -> String {
        let row = self.confusion.row(class).iter().enumerate();
        let wrong = row.filter(|(predicted, count)| *predicted != class && **count > 0);
        // Of equal counts the first class stands.
        match wrong.max_by_key(|(predicted, count)| (**count, std::cmp::Reverse(*predicted))) {
            Some((predicted, count)) => {
                // A class that was taken for another has images.
                let of_class = *count as f64 / self.classes[class].images as f64;
                format!(
                    "{} ({})",
                    self.classes[predicted].name,
                    percent(Some(of_class))
                )
            }
            None => String::new(),
        }
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", 100.0 * share))
}

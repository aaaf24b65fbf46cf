//! The plots of a study's results, each an SVG of its own.

use super::{ReportKind, ResultRow, Results};
use crate::arch::Architecture;
use crate::arch::published::networks;
use crate::report::{Bar, Lines, Mark, Marks, Scatter, bars};

/// The title of every axis of errors.
const ERROR: &str = "top-1 error, %";

/// A plot and what stands below it.
pub(super) struct Plot {
    /// Its file's name without the ending.
    pub(super) name: String,
    pub(super) caption: String,
    pub(super) svg: String,
}

/// What networks cost.
#[derive(Clone, Copy)]
enum Cost {
    Time,
    Parameters,
    Macs,
}

impl Cost {
    fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Parameters => "parameters",
            Self::Macs => "macs",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Time => "time of a training step, ms",
            Self::Parameters => "parameters, thousand",
            Self::Macs => "multiply-accumulates of an image, million",
        }
    }

    fn of(self, row: &ResultRow) -> Option<f64> {
        match self {
            Self::Time => row.ms_per_step.map(|spread| spread.mean),
            Self::Parameters => row.parameters.map(|count| count as f64 / 1e3),
            Self::Macs => row.macs.map(|macs| macs as f64 / 1e6),
        }
    }
}

/// Every plot that there are results for.
pub(super) fn plots(results: &Results) -> Vec<Plot> {
    let own = match results.kind {
        ReportKind::Bars => Vec::new(),
        ReportKind::TradeOff => trade_off(results),
        ReportKind::Budget => budget(results),
    };
    own.into_iter().chain(errors(results)).collect()
}

/// A panel for each group and cost.
fn trade_off(results: &Results) -> Vec<Plot> {
    let groups: Vec<Option<&str>> = match &results.groups[..] {
        [] => vec![None],
        groups => groups.iter().map(|group| Some(group.as_str())).collect(),
    };
    let panels = [Cost::Time, Cost::Parameters]
        .into_iter()
        .flat_map(|cost| groups.iter().map(move |group| (cost, *group)));
    panels
        .filter_map(|(cost, group)| panel(results, cost, group))
        .collect()
}

fn panel(results: &Results, cost: Cost, group: Option<&str>) -> Option<Plot> {
    let is_shown =
        |row: &&ResultRow| group.is_none() || row.group.is_none() || row.group.as_deref() == group;
    let of = |is_compared: bool| -> Vec<Mark> {
        let rows = results.rows.iter().filter(is_shown);
        rows.filter(|row| row.baseline.is_some() == is_compared)
            .filter_map(|row| mark(row, cost.of(row)?))
            .collect()
    };
    let series = |name: &str, marks| Marks {
        name: name.to_owned(),
        marks,
    };
    let of_group = group.map_or_else(String::new, |group| format!(" ({group})"));
    let caption = format!("Error against {}{of_group}", cost.title());
    let scatter = Scatter {
        label: &caption,
        axes: (cost.title(), ERROR),
        series: vec![
            series(group.unwrap_or_default(), of(true)),
            series("", of(false)),
        ],
        lines: Lines::Hull,
    };
    let svg = scatter.draw()?;
    let group = group.map_or_else(String::new, |group| format!("{group}-"));
    Some(Plot {
        name: format!("{group}{}", cost.name()),
        caption: caption + "; lower and farther left is better.",
        svg,
    })
}

fn mark(row: &ResultRow, cost: f64) -> Option<Mark> {
    let spread = row.top1_error?;
    Some(Mark {
        name: row.name.clone(),
        at: (cost, spread.mean),
        sd: spread.sd,
    })
}

/// A line for each group against what its networks cost, and what was published of such lines.
fn budget(results: &Results) -> Vec<Plot> {
    let lines = [Cost::Macs, Cost::Time].into_iter().filter_map(|cost| {
        let of = |group: Option<&str>| {
            let rows = results.rows.iter();
            let rows = rows.filter(|row| row.group.as_deref() == group);
            let mut marks: Vec<Mark> = rows.filter_map(|row| mark(row, cost.of(row)?)).collect();
            marks.sort_by(|one, other| one.at.0.total_cmp(&other.at.0));
            Marks {
                name: group.unwrap_or_default().to_owned(),
                marks,
            }
        };
        let groups = results.groups.iter().map(|group| Some(group.as_str()));
        let caption = format!("Error against {}", cost.title());
        let scatter = Scatter {
            label: &caption,
            axes: (cost.title(), ERROR),
            series: groups.chain([None]).map(of).collect(),
            lines: Lines::Series,
        };
        Some(Plot {
            name: cost.name().to_owned(),
            svg: scatter.draw()?,
            caption: caption + ".",
        })
    });
    lines.chain(published()).collect()
}

/// The paper's networks.
fn published() -> Option<Plot> {
    let of = |name: &str, begins: &str| {
        let own = networks().iter().filter_map(|network| {
            let errors = network
                .published
                .filter(|one| one.source == "PolyNet paper")?;
            if !network.preset.starts_with(begins) {
                return None;
            }
            let architecture: Architecture = network.preset.parse().ok()?;
            Some(Mark {
                name: network.preset.to_owned(),
                at: (
                    architecture.cost().ok()?.macs as f64 / 1e9,
                    errors.single_crop.top1,
                ),
                sd: None,
            })
        });
        Marks {
            name: name.to_owned(),
            marks: own.collect(),
        }
    };
    let caption = "As published, not measured here: the paper's networks on ILSVRC-2012's validation \
                   images, one crop each, against their cost at the size of their crops.";
    let scatter = Scatter {
        label: caption,
        axes: ("multiply-accumulates of an image, billion", ERROR),
        series: vec![
            of("IR", "ir-"),
            of("PolyNet", "very-deep-polynet"),
            of("ResNet", "resnet-"),
        ],
        lines: Lines::Series,
    };
    Some(Plot {
        name: "published".to_owned(),
        caption: caption.to_owned(),
        svg: scatter.draw()?,
    })
}

/// The error of every network with every seed as a point.
fn errors(results: &Results) -> Option<Plot> {
    let mean = |name: &String| {
        let row = results.rows.iter().find(|row| row.name == *name)?;
        row.top1_error.map(|spread| spread.mean)
    };
    let all: Vec<Bar> = (results.rows.iter())
        .map(|row| Bar {
            name: row.name.clone(),
            values: row.results.iter().map(|one| one.top1_error).collect(),
            spread: row.top1_error.map(|spread| (spread.mean, spread.sd)),
            from: row.baseline.as_ref().and_then(mean),
            note: match row.top1_error {
                Some(spread) => format!("{} (n {})", spread.text(2), spread.n),
                None => "no seed yet".to_owned(),
            },
        })
        .collect();
    Some(Plot {
        name: "errors".to_owned(),
        caption: "Every seed is a point, the stroke their mean, the whiskers their standard deviation. A bar \
                  goes from the mean of what a network is compared with to its own: blue to a lower error, \
                  amber to a higher one."
            .to_owned(),
        svg: bars(&results.title, ERROR, &all)?,
    })
}

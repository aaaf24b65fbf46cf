//! A study's results as one HTML page that needs no other file, and its plots as files of their own.
//!
//! Law: the page is right on light and on dark screens, wide and narrow, and on paper; it names how many
//! seeds each figure is of, and what is missing.

use super::Results;
use super::plots::{Plot, plots};
use super::results::COLUMNS;
use crate::report::printable;

/// A page and its plots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The page, HTML.
    pub page: String,
    /// Names without `.svg`, and SVGs.
    pub plots: Vec<(String, String)>,
}

/// The report of a study's results, whether all of its jobs are done or not.
pub fn report(results: &Results) -> Report {
    let plots = plots(results);
    let parts = [
        head(results),
        figures(&plots),
        table(results),
        failures(results),
        foot(results),
    ];
    Report {
        page: format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n\
             <style>{STYLE}</style>\n{}</html>\n",
            printable(&results.title),
            parts.concat()
        ),
        plots: plots
            .into_iter()
            .map(|plot| (plot.name, plot.svg))
            .collect(),
    }
}

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1f2933;--faint:#616e7c;--rule:#e4e7eb;--paper:#fff}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e4e8ee;--faint:#9aa5b1;--rule:#2e353f;--paper:#14181d}}
body{font:16px/1.5 Helvetica,Arial,'Liberation Sans',sans-serif;max-width:90rem;margin:auto;padding:1rem;\
color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;line-height:1.25}h2{font-size:1.15rem;margin-top:2rem}
p{max-width:46rem}.faint,figcaption{color:var(--faint);font-size:.875rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem}
figure{margin:0;overflow-x:auto}figure.bars{grid-column:1/-1}svg{max-width:100%;height:auto}
figure.bars svg{min-width:32rem}
.table{overflow-x:auto}table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{text-align:left;padding-left:0}:is(th,td):last-child{text-align:left}
@media print{body{font-size:11px;max-width:none;padding:0}figure,tr{break-inside:avoid}\
.plots{grid-template-columns:1fr 1fr}table{font-size:8px}th,td{padding:.2rem .35rem}}
";

fn head(results: &Results) -> String {
    let claim = match results.claim.as_str() {
        "" => String::new(),
        claim => format!("<p>Claim: {}</p>\n", printable(claim)),
    };
    format!(
        "<h1>{}</h1>\n{claim}<p>{}</p>\n",
        printable(&results.title),
        results.state()
    )
}

fn figures(plots: &[Plot]) -> String {
    let figures: String = (plots.iter())
        .map(|Plot { name, caption, svg }| {
            let class = match name.as_str() {
                "errors" => " class=\"bars\"",
                _ => "",
            };
            let caption = printable(caption);
            format!("<figure{class}>\n{svg}<figcaption>{caption}</figcaption></figure>\n")
        })
        .collect();
    match figures.is_empty() {
        true => "<p>There is nothing to draw yet.</p>\n".to_owned(),
        false => format!("<div class=\"plots\">\n{figures}</div>\n"),
    }
}

fn table(results: &Results) -> String {
    let head: String = COLUMNS
        .map(|column| format!("<th scope=\"col\">{column}</th>"))
        .concat();
    let rows: String = (results.table().iter())
        .map(|cells| {
            let cells = cells
                .each_ref()
                .map(|cell| format!("<td>{}</td>", printable(cell)));
            format!("<tr>{}</tr>\n", cells.concat())
        })
        .collect();
    format!(
        "<h2>Networks</h2>\n<div class=\"table\"><table>\n<thead><tr>{head}</tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div>\n\
         <p class=\"faint\">Errors are those at the end of training, on the images that a run validates on: mean \
         ± standard deviation over the seeds. Networks are compared seed by seed over the seeds that both have; \
         a difference of top-1 errors is in percentage points, with Student's interval at 95 %, each for itself: \
         of twenty comparisons of equals about one lies outside its own.</p>\n"
    )
}

fn failures(results: &Results) -> String {
    let failures = results.rows.iter().flat_map(|row| {
        let failed = row.failed.iter();
        failed.map(|(seed, reason)| {
            let (name, reason) = (printable(&row.name), printable(reason));
            format!("<li>{name} with seed {seed}: {reason}</li>\n")
        })
    });
    let failures: String = failures.collect();
    match failures.is_empty() {
        true => failures,
        false => format!("<h2>Failed</h2>\n<ul>\n{failures}</ul>\n"),
    }
}

fn foot(results: &Results) -> String {
    let machines = results.machines.iter().map(|machine| {
        let machine = printable(machine);
        format!("<p class=\"faint\">On {machine}.</p>\n")
    });
    machines.collect()
}

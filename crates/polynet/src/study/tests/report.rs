//! What is reported of ledgers that are whole, begun and damaged.

use super::super::*;
use super::{entry, figures, shipped_text};

const TEXT: &str = "title = 'A & B'\nclaim = 'less is <more>'\nseeds = [1, 2, 3]\n\
    [report]\nkind = 'KIND'\ngroups = ['A', 'B']\nbaseline = 'BASELINE'\n\
    [[architectures]]\nname = 'base'\nnetwork = 'x'\n\
    [[architectures]]\nname = 'A-1'\nnetwork = 'x'\n\
    [[architectures]]\nname = 'B-1'\nnetwork = 'x'\n";

fn outline(kind: &str, baseline: &str) -> Outline {
    let text = TEXT.replace("KIND", kind).replace("BASELINE", baseline);
    Outline::parse(&text).unwrap()
}

fn done(architecture: &str, seed: u64, top1_error: f64) -> Entry {
    let figures = Figures {
        top1_error,
        parameters: 1000 * architecture.len() as u64,
        ..figures()
    };
    named(architecture, seed, Outcome::Finished(figures))
}

fn named(architecture: &str, seed: u64, outcome: Outcome) -> Entry {
    Entry {
        architecture: architecture.to_owned(),
        variant: "plain".to_owned(),
        seed,
        ..entry(&format!("{architecture}/plain/{seed}"), outcome)
    }
}

/// A study in the middle: `B-1` has one seed, one that failed and one that is missing.
fn begun() -> Vec<Entry> {
    let failed = Outcome::Failed {
        reason: "the loss is <NaN>".to_owned(),
    };
    vec![
        done("base", 1, 0.30),
        done("A-1", 1, 0.28),
        done("B-1", 1, 0.31),
        done("base", 2, 0.32),
        // The order of the ledger is that in which jobs ended.
        done("A-1", 3, 0.27),
        done("base", 3, 0.31),
        named("B-1", 2, failed),
        // A job that the study does not have any more.
        done("C-1", 1, 0.99),
    ]
}

#[test]
fn networks_are_compared_by_the_seeds_that_both_have() {
    let results = Results::new(&outline("bars", "base"), &begun());
    let [base, a, b] = &results.rows[..] else {
        panic!("{:?}", results.rows)
    };
    assert_eq!(base.top1_error.unwrap().text(2), "31.00 ± 1.00");
    assert_eq!((base.baseline.as_deref(), base.difference), (None, None));
    // Seeds 1 and 3: −2 and −4. Student's quantile of one degree of freedom is 12.71, times √2 / √2.
    assert_eq!(a.difference.unwrap().text(2), "−3.00 [−15.71, +9.71]");
    assert_eq!(a.difference.unwrap().verdict(), Verdict::WithinInterval);
    assert_eq!(a.seeds_text(), "2; missing 2");
    assert_eq!(b.difference.unwrap().text(2), "+1.00");
    assert_eq!(b.difference.unwrap().verdict(), Verdict::OneSeed);
    assert_eq!(b.seeds_text(), "1; missing 3; failed 2");
    assert_eq!(
        results.state(),
        "6 of 9 runs are done, 2 are missing, 1 failed."
    );
}

#[test]
fn a_baseline_may_be_an_architecture_a_variant_or_a_group() {
    let of_group = outline("budget", "A");
    let other = |network: (&str, &str)| of_group.baseline_of(network.0, network.1);
    let pair = |one: &str, other: &str| Some((one.to_owned(), other.to_owned()));
    assert_eq!(other(("B-1", "plain")), pair("A-1", "plain"));
    assert_eq!(other(("A-1", "plain")), None);
    assert_eq!(other(("base", "plain")), None);
    // A study that is shipped compares the starts of each network.
    let insertion = Outline::parse(&shipped_text("insertion.toml")).unwrap();
    let other = |network: (&str, &str)| insertion.baseline_of(network.0, network.1);
    assert_eq!(other(("2-way", "random")), pair("2-way", "inserted"));
    assert_eq!(other(("ir-3-6-3", "half")), None);
    // Where the text says nothing it is the first architecture, or of a single one the first variant.
    let plain = Outline::parse(
        "title = 'x'\n[[architectures]]\nname = 'a'\nnetwork = 'x'\n\
        [[variants]]\nname = 'u'\n[[variants]]\nname = 'v'\n",
    )
    .unwrap();
    assert_eq!(plain.baseline_of("a", "v"), pair("a", "u"));
}

#[test]
fn faults_of_a_report_are_told() {
    for (from, to, expected) in [
        (
            "KIND",
            "bar",
            "expected bars, trade-off or budget, came \"bar\"",
        ),
        ("'B']", "'C']", "each with an architecture `C-…`"),
        ("BASELINE", "bose", "came \"bose\""),
        ("kind", "knd", "the nearest is `kind`"),
    ] {
        let text = TEXT.replace(from, to);
        let text = text.replace("KIND", "bars").replace("BASELINE", "base");
        let message = Outline::parse(&text).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_page_shows_what_there_is_and_what_is_missing() {
    for (kind, expected) in [
        ("bars", vec!["errors"]),
        (
            "trade-off",
            vec!["A-time", "B-time", "A-parameters", "B-parameters", "errors"],
        ),
        ("budget", vec!["macs", "time", "published", "errors"]),
    ] {
        let results = Results::new(&outline(kind, "base"), &begun());
        let Report { page, plots } = report(&results);
        let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected);
        assert!(plots.iter().all(|(_, svg)| page.contains(svg)));
        for expected in [
            "<h1>A &amp; B</h1>",
            "less is &lt;more&gt;",
            "the loss is &lt;NaN&gt;",
            "<td>1; missing 3; failed 2</td>",
            "<td>−3.00 [−15.71, +9.71]</td><td>within the interval</td>",
        ] {
            assert!(page.contains(expected), "{kind}: {expected}\n{page}");
        }
        // It needs nothing from elsewhere.
        let links = page.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !links.contains("http") && !links.contains(" src="),
            "{links}"
        );
    }
    // Nothing is done yet.
    for kind in ["bars", "trade-off"] {
        let nothing = report(&Results::new(&outline(kind, "base"), &[]));
        assert_eq!(nothing.plots, []);
        assert!(nothing.page.contains("nothing to draw yet"));
    }
}

#[test]
fn the_document_has_every_ledger_of_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let ledgers = root.path().join("ledgers");
    std::fs::create_dir(&ledgers).unwrap();
    assert!(
        markdown(&ledgers, root.path())
            .unwrap()
            .contains("No study")
    );
    let text = TEXT.replace("KIND", "bars").replace("BASELINE", "base");
    std::fs::write(root.path().join("ab.toml"), text).unwrap();
    for entry in begun() {
        Ledger::new(ledgers.join("ab.jsonl"))
            .append(&entry)
            .unwrap();
    }
    let document = markdown(&ledgers, root.path()).unwrap();
    let row = "| A-1 | 2; missing 2 | 27.50 ± 0.71 | base | −3.00 [−15.71, +9.71] | within the interval |";
    assert!(document.contains(row), "{document}");
    assert!(document.contains("B-1 with seed 2 failed: the loss is <NaN>"));
    Ledger::new(ledgers.join("other.jsonl"))
        .append(&begun()[0])
        .unwrap();
    let error = markdown(&ledgers, root.path()).unwrap_err().to_string();
    assert!(error.contains("other.toml"), "{error}");
}

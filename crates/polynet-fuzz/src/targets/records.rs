//! What runs and studies have written.

use super::{SMALL, Target};
use crate::scratch;
use polynet::report::{curves, read_metrics};
use polynet::study::{Ledger, csv};

const WORDS: &[&str] = &[
    "\"kind\"",
    "\"train\"",
    "\"validation\"",
    "\"event\"",
    "\"step\"",
    "null",
    "1e400",
    "-0.0",
    "\n",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "\\u0000",
    "[",
    "]",
];

pub(super) const METRICS: Target = Target {
    name: "metrics",
    read: |input| match read_metrics(&scratch::file("metrics.jsonl", input)) {
        Err(error) => drop(error.to_string()),
        Ok(metrics) => drop(curves(&metrics.records, "run")),
    },
    seeds: || {
        let text = concat!(
            r#"{"kind":"train","step":50,"epoch":0.1,"images":12800,"loss":2.1,"top1":0.2,"#,
            r#""learning_rate":0.4,"images_per_s":310.0}"#,
            "\n",
            r#"{"kind":"validation","step":500,"epoch":1.0,"loss":1.7,"top1":0.4,"top5":0.9}"#,
            "\n",
            r#"{"kind":"event","step":500,"epoch":1.0,"message":"interrupted"}"#,
            "\n"
        );
        vec![text.as_bytes().to_vec()]
    },
    words: WORDS,
    memory: SMALL,
};

pub(super) const LEDGER: Target = Target {
    name: "ledger",
    read: |input| match Ledger::new(scratch::file("ledger.jsonl", input)).read() {
        Err(error) => drop(error.to_string()),
        Ok(entries) => drop(csv(&entries)),
    },
    seeds: || {
        let text = concat!(
            r#"{"job":"a/b/1","architecture":"a","variant":"b","seed":1,"network":"ir-3-6-3","from":null,"#,
            r#""recipe":"0","outcome":"failed","reason":"the loss is NaN","processor":"p","#,
            r#""instructions":"avx2","threads":2,"device":"cpu","version":"1","ended":7}"#,
            "\n"
        );
        vec![text.as_bytes().to_vec()]
    },
    words: WORDS,
    memory: SMALL,
};

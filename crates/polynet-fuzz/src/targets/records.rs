//! What runs and studies have written.

use super::{MIB, SMALL, Target};
use crate::{Allowance, scratch};
use polynet::data::Dataset;
use polynet::eval::{PredictionFile, PredictionRequest};
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

/// Rows of a prediction that goes on.
pub(super) const PREDICTIONS: Target = Target {
    name: "predictions",
    read: |input| {
        for name in ["rows.csv", "rows.jsonl"] {
            let path = scratch::folder().join(name);
            if !path.with_added_extension("part.json").exists() {
                begin(name).expect("a file of predictions that begins");
            }
            scratch::file(&format!("{name}.part"), input);
            match begin(name) {
                Err(error) => drop(error.to_string()),
                Ok(file) => {
                    let [done, failed] = file.done();
                    assert!(failed <= done && done <= PICTURES, "{failed} of {done}");
                }
            }
        }
    },
    seeds: || {
        let rows = concat!(
            "image,class_1,probability_1,class_2,probability_2,error\n",
            "a.png,cat,0.75,\"dog, small\",0.25,\n",
            "b.png,,,,,\"broken\n\"\n"
        );
        let lines = concat!(
            r#"{"image":"a.png","classes":[{"name":"cat","probability":0.75}]}"#,
            "\n",
            r#"{"image":"b.png","error":"broken"}"#,
            "\n"
        );
        [rows, lines].map(|text| text.as_bytes().to_vec()).to_vec()
    },
    words: &[
        "\"image\"",
        "\"classes\"",
        "\"error\"",
        "\"name\"",
        "\"probability\"",
        "\"",
        "\"\"",
        ",",
        "\n",
        "\r\n",
        "NaN",
        "1e400",
        "null",
        "{",
        "}",
        "[",
        "]",
    ],
    memory: Allowance {
        fixed: 4 * MIB,
        per_byte: 256,
    },
};

/// Pictures that are predicted.
const PICTURES: usize = 3;

/// Begins a file of predictions, or goes on with it.
fn begin(name: &str) -> Result<PredictionFile, Box<dyn std::error::Error>> {
    let pictures: Vec<_> = (0..PICTURES)
        .map(|number| scratch::folder().join(format!("pictures/{number}.png")))
        .collect();
    for picture in pictures.iter().filter(|picture| !picture.exists()) {
        let name = picture.strip_prefix(scratch::folder())?;
        scratch::file(&name.display().to_string(), b"a picture");
    }
    let pictures = Dataset::unlabelled(&pictures)?;
    let request = PredictionRequest::new(String::new(), "cpu", &pictures, [2, 1], None);
    Ok(PredictionFile::begin(
        &scratch::folder().join(name),
        None,
        request,
    )?)
}

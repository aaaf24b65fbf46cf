//! Weights and models.

use super::{MIB, SMALL, Target};
use crate::{Allowance, scratch};
use polynet::train::checkpoint;
use polynet::{TensorRef, open_weights, read_config, read_safetensors, write_safetensors};
use std::collections::HashMap;

const WORDS: &[&str] = &[
    "F32",
    "F16",
    "BF16",
    "F64",
    "I64",
    "U8",
    "F4",
    "\"dtype\"",
    "\"shape\"",
    "\"data_offsets\"",
    "__metadata__",
    "[0,0]",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "\"",
];

pub(super) const SAFETENSORS: Target = Target {
    name: "safetensors",
    read: |input| read("weights.safetensors", input),
    seeds: || vec![safetensors(None)],
    words: WORDS,
    memory: SMALL,
};

/// The header of a file of tensors, whose length is right and whose data is there.
pub(super) const TENSORS: Target = Target {
    name: "tensors",
    read: |input| {
        let length = (input.len() as u64).to_le_bytes();
        read(
            "header.safetensors",
            &[&length, input, &[0x3f; 64]].concat(),
        );
    },
    seeds: || {
        let header = |text: &str| text.as_bytes().to_vec();
        vec![
            header(r#"{"a":{"dtype":"F32","shape":[4,4],"data_offsets":[0,64]}}"#),
            header(
                r#"{"__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[8],"data_offsets":[0,16]},
                "b":{"dtype":"I64","shape":[2,3],"data_offsets":[16,64]}}"#,
            ),
        ]
    },
    words: WORDS,
    memory: SMALL,
};

pub(super) const PTH: Target = Target {
    name: "pth",
    read: |input| read("weights.pth", input),
    seeds: || vec![include_bytes!("../../seeds/zip.pth").to_vec()],
    words: PICKLE_WORDS,
    memory: PYTORCH,
};

/// What PyTorch wrote before it wrote archives.
pub(super) const PICKLE: Target = Target {
    name: "pickle",
    read: |input| read("old.pth", input),
    seeds: || {
        vec![
            include_bytes!("../../seeds/legacy.pth").to_vec(),
            include_bytes!("../../seeds/dict.pkl").to_vec(),
        ]
    },
    words: PICKLE_WORDS,
    memory: PYTORCH,
};

const PICKLE_WORDS: &[&str] = &[
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nFloatStorage\n",
    "ccollections\nOrderedDict\n",
    "storage",
    "cpu",
    "(",
    ")",
    "]",
    "}",
    "t",
    "R",
    "Q",
    "q\0",
    "h\0",
    "e",
    "u",
    "s",
    ".",
    "M\0",
    "K\0",
    "J",
    "X",
    "N",
    "PK\x03\x04",
    "PK\x01\x02",
    "PK\x05\x06",
];

/// An archive may be packed.
const PYTORCH: Allowance = Allowance {
    fixed: 4 * MIB,
    per_byte: 4096,
};

pub(super) const CHECKPOINT: Target = Target {
    name: "checkpoint",
    read: |input| {
        scratch::file("checkpoints/step-000000001.safetensors", input);
        let loaded = checkpoint::load_newest(&scratch::folder().join("checkpoints"));
        drop(loaded.map_err(|error| error.to_string()));
    },
    seeds: || {
        let position = r#"{"step":1,"updates":1,"best_top1":0.5,"skipped":0,"window":{}}"#;
        let metadata = HashMap::from([("polynet.position".to_owned(), position.to_owned())]);
        vec![safetensors(Some(metadata)), safetensors(None)]
    },
    words: WORDS,
    memory: SMALL,
};

/// What a model says of itself.
pub(super) const CONFIG: Target = Target {
    name: "config",
    read: |input| {
        scratch::file("model/config.json", input);
        let config = read_config(&scratch::folder().join("model"));
        drop(config.map_err(|error| error.to_string()));
    },
    seeds: || vec![include_bytes!("../../seeds/config.json").to_vec()],
    words: &[
        "\"classes\"",
        "\"architecture\"",
        "\"preprocessing\"",
        "\"format\"",
        "1e400",
        "null",
        "[]",
        "{}",
        "-1",
        "\\u0000",
        "\"",
        ",",
        ":",
    ],
    memory: Allowance {
        fixed: 256 * MIB,
        per_byte: 256,
    },
};

fn safetensors(metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let tensors = [
        TensorRef::new("stem.weight", &[2, 3], &[0.5; 6]),
        TensorRef::new("head.bias", &[4], &[-1.0, 0.0, 1e-30, 7.0]),
    ];
    let path = scratch::file("seed.safetensors", &[]);
    write_safetensors(&path, &tensors, metadata).expect("a file of tensors");
    std::fs::read(path).expect("the file that was just written")
}

/// Reads a file of weights, of its tensors each.
fn read(name: &str, input: &[u8]) {
    let path = scratch::file(name, input);
    if name.ends_with(".safetensors") {
        drop(read_safetensors(&path).map_err(|error| error.to_string()));
    }
    match open_weights(&path) {
        Err(error) => drop(error.to_string()),
        Ok(weights) => {
            drop(weights.others());
            let shapes: Vec<(&str, &[usize])> = weights.shapes().collect();
            for (name, shape) in shapes {
                if let Ok(values) = weights.values(name) {
                    assert_eq!(
                        values.len(),
                        shape.iter().product::<usize>(),
                        "{name} {shape:?}"
                    );
                }
            }
        }
    }
}

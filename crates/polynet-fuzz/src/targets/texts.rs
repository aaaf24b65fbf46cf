//! What people write.

use super::{MIB, Target};
use crate::Allowance;
use polynet::arch::Architecture;
use polynet::search::Search;
use polynet::study::{Outline, Study};
use polynet::train::Recipe;
use polynet_algebra::{MAX_TEXT, ast, parse_network, parse_polynomial, parse_sequence};
use std::str::from_utf8;

/// Polynomials and networks may be far larger than their texts, up to the algebra's own bounds.
const BOUNDED: Allowance = Allowance {
    fixed: 256 * MIB,
    per_byte: 256,
};

const WORDS: &[&str] = &[
    "I",
    "F",
    "G",
    "H",
    "(",
    ")",
    " + ",
    "^2",
    "^",
    "2-way",
    "3-way",
    "poly-3",
    "mpoly-2",
    " x 10",
    " -> ",
    "A:",
    "B:",
    "; ",
    "ir-3-6-3",
    "small-ir-1-2-1",
    "small-polynet",
    "resnet-50",
    "inception-v4",
    "width = ",
    "classes = ",
    "input = ",
    "scale = ",
    "sharing = ",
    "family = ",
    "F_2",
    "\n",
    "#",
    "'",
    "\"",
    "[[",
    "]]",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    "...",
    "é",
    "\u{2192}",
    "\u{202e}",
    "\0",
];

pub(super) const ALGEBRA: Target = Target {
    name: "algebra",
    read: algebra,
    seeds: || {
        texts(&[
            "I + F + GF",
            "I + (I + G)F",
            "(I + F)^2",
            "I + F(I + F(I + F))",
            "mpoly-3",
            "F + G + H + F_2G_3",
            "(3-way -> mpoly-3 -> poly-3) x 4",
            "A: 2-way x10; B: (poly-3 -> 2-way) x10; C: (poly-3 -> 2-way) x5",
            "base: ir-3-6-3\nA: I + F # a remark\nwidth = 0.25; input = 331",
        ])
    },
    words: WORDS,
    memory: BOUNDED,
};

pub(super) const ARCHITECTURE: Target = Target {
    name: "architecture",
    read: architecture,
    seeds: || {
        texts(&[
            "ir-3-6-3",
            "small-ir-1-2-1; width = 0.0625; classes = 2; input = 16",
            "small-polynet; A: I + F + GF; B: (2-way -> poly-2) x 2",
            "A: 2-way x10; B: (poly-3 -> 2-way) x10; C: (poly-3 -> 2-way) x5; input = 331",
            "resnet-50; classes = 10",
            "inception-v4; width = 0.25",
            "very-deep-polynet; scale = 0.3; sharing = release",
        ])
    },
    words: WORDS,
    memory: BOUNDED,
};

pub(super) const RECIPE: Target = Target {
    name: "recipe",
    read: recipe,
    seeds: || {
        texts(&[
            include_str!("../../../../recipes/cifar10.toml"),
            include_str!("../../../../recipes/first.toml"),
            include_str!("../../../../recipes/imagenet-ir-5-10-5.toml"),
            include_str!("../../../../recipes/imagenet-very-deep-polynet.toml"),
        ])
    },
    words: WORDS,
    memory: BOUNDED,
};

pub(super) const STUDY: Target = Target {
    name: "study",
    read: study,
    seeds: || {
        texts(&[
            include_str!("../../../../recipes/studies/stages.toml"),
            include_str!("../../../../recipes/studies/insertion.toml"),
            "title = 'x'\nseeds = [1, 2]\n[recipe]\ndata.path = 'p'\n[report]\nkind = 'bars'\n\
             [[architectures]]\nname = 'large'\nnetwork = 'small-polynet'\n\
             [[architectures]]\nname = 'small'\nnetwork = 'small-ir-1-2-1'\n\
             [[variants]]\nname = 'random'\narchitectures = ['small']\n\
             [[variants]]\nname = 'grown'\narchitectures = ['large']\ngrow = { from = 'small' }\n",
        ])
    },
    words: WORDS,
    memory: BOUNDED,
};

pub(super) const SEARCH: Target = Target {
    name: "search",
    read: search,
    seeds: || {
        texts(&[
            include_str!("../../../../recipes/searches/mixed-design.toml"),
            "title = 'x'\nstart = 'small-ir-1-2-1'\nseed = 7\n[space]\nstages = ['B']\nmodules = 3\n\
             [limits]\nmemory_mib = 64\nms_per_step = 8.5\n\
             [rungs]\ncandidates = 4\nkeep = 3\nchildren = 0\ncost = 'parameters'\ndurations = ['1 epoch']\n",
        ])
    },
    words: WORDS,
    memory: BOUNDED,
};

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn algebra(input: &[u8]) {
    let Ok(text) = from_utf8(input) else { return };
    if let Ok(syntax) = ast::Polynomial::parse(text) {
        assert_eq!(syntax.to_string(), text);
    }
    if let Ok(syntax) = ast::Stage::parse(text) {
        assert_eq!(syntax.to_string(), text);
    }
    if let Ok(syntax) = ast::Network::parse(text) {
        assert_eq!(syntax.to_string(), text);
    }
    match parse_polynomial(text) {
        Err(error) => drop(error.to_string()),
        Ok(polynomial) => {
            let plan = polynomial.plan();
            let _ = (plan.to_string(), plan.cascaded(), polynomial.name());
            let printed = polynomial.to_string();
            if printed.len() <= MAX_TEXT {
                assert_eq!(parse_polynomial(&printed), Ok(polynomial));
            }
        }
    }
    if let Err(error) = parse_sequence(text) {
        drop(error.to_string());
    }
    match parse_network(text) {
        Err(error) => drop(error.to_string()),
        Ok(network) => drop(format!("{network:?}")),
    }
}

fn architecture(input: &[u8]) {
    let Ok(text) = from_utf8(input) else { return };
    match text.parse::<Architecture>() {
        Err(error) => drop(error.to_string()),
        Ok(architecture) => {
            let printed = architecture.to_string();
            let again = printed.parse::<Architecture>();
            assert_eq!(again.ok().map(|again| again.to_string()), Some(printed));
            if let Err(error) = architecture.cost() {
                drop(error.to_string());
            }
        }
    }
}

fn recipe(input: &[u8]) {
    let Ok(text) = from_utf8(input) else { return };
    match Recipe::parse(text, &[]) {
        Err(error) => drop(error.to_string()),
        Ok(recipe) => {
            let printed = recipe
                .to_toml()
                .expect("a recipe that was read can be written");
            assert_eq!(Recipe::parse(&printed, &[]).ok(), Some(recipe), "{printed}");
        }
    }
}

fn study(input: &[u8]) {
    let Ok(text) = from_utf8(input) else { return };
    if let Err(error) = Outline::parse(text) {
        drop(error.to_string());
    }
    match Study::parse(text, &[]) {
        Err(error) => drop(error.to_string()),
        Ok(study) => assert!(!study.jobs.is_empty()),
    }
}

fn search(input: &[u8]) {
    let Ok(text) = from_utf8(input) else { return };
    match Search::parse(text, &[]) {
        Err(error) => drop(error.to_string()),
        Ok(search) => assert!(!search.title.is_empty()),
    }
}

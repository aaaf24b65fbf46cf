//! Texts of sequences and networks: what they mean, how they print, what is wrong with them.

use polynet_algebra::ast::{self, Syntax};
use polynet_algebra::{
    Error, ErrorKind, Network, SettingValue, parse_network, parse_polynomial, parse_sequence,
};
use proptest::prelude::*;

fn texts(source: &str) -> Vec<String> {
    let modules = parse_sequence(source).unwrap_or_else(|error| panic!("{error}"));
    modules.into_iter().map(|module| module.text).collect()
}

fn network(source: &str) -> Network {
    parse_network(source).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn sequences_are_written_out_in_order() {
    for (source, modules) in [
        ("2-way", "2-way"),
        (
            "(3-way -> mpoly-3 → poly-3) x 2",
            "3-way|mpoly-3|poly-3|3-way|mpoly-3|poly-3",
        ),
        ("2-way x2 -> poly-3", "2-way|2-way|poly-3"),
        ("2-way×2→poly-3 *1", "2-way|2-way|poly-3"),
        ("I + F + GF x2", "I + F + GF|I + F + GF"),
        ("(I + F)^2 x2", "(I + F)^2|(I + F)^2"),
        ("(I+F)G -> (I + F) x2", "(I+F)G|(I + F)|(I + F)"),
        ("((2-way x2 -> I) x2 -> F)", "2-way|2-way|I|2-way|2-way|I|F"),
        ("((2-way))", "((2-way))"),
        ("(2-way) x2", "(2-way)|(2-way)"),
        ("F2x2 -> Fx 1", "F2|F2|F"),
        ("I + # a comment -> x9 (\n F", "I + # a comment -> x9 (\n F"),
    ] {
        assert_eq!(texts(source).join("|"), modules, "{source}");
    }
}

#[test]
fn a_module_knows_its_polynomial_and_its_place() {
    let source = "2-way → (I + (I + G)F × 2)";
    let modules = parse_sequence(source).expect(source);
    let found: Vec<_> = modules
        .iter()
        .map(|module| (&source[module.span.range()], module.polynomial.name()))
        .collect();
    let cascaded = ("I + (I + G)F", Some("mpoly-2".to_owned()));
    assert_eq!(
        found,
        [
            ("2-way", Some("2-way".to_owned())),
            cascaded.clone(),
            cascaded
        ]
    );
}

#[test]
fn the_very_deep_polynet_has_ten_twenty_and_ten_modules() {
    let network = network("A: 2-way x10; B: (poly-3 -> 2-way) x10; C: (poly-3 -> 2-way) x5");
    let counts: Vec<_> = network
        .stages
        .iter()
        .map(|stage| (stage.label.value.as_str(), stage.modules().len()))
        .collect();
    assert_eq!(counts, [("A", 10), ("B", 20), ("C", 10)]);
    assert_eq!((network.base, network.settings.len()), (None, 0));
}

#[test]
fn a_network_has_a_preset_stages_and_settings() {
    let source = "# a study\nvery-deep-polynet\n\n2: mpoly-3\n  # more\nB: (poly-3\n  -> 2-way\n) x3 ; classes = 10;sharing=full\
                  \r\nscale = -2.5e-1; stem = \"a; b # c\"; size = 3-6-3;";
    let network = network(source);
    assert_eq!(
        network.base.map(|base| base.value).as_deref(),
        Some("very-deep-polynet")
    );
    let stages: Vec<_> = network
        .stages
        .iter()
        .map(|stage| &source[stage.span.range()])
        .collect();
    assert_eq!(stages, ["2: mpoly-3", "B: (poly-3\n  -> 2-way\n) x3"]);
    let settings: Vec<_> = network
        .settings
        .iter()
        .map(|setting| (setting.key.value.as_str(), setting.value.value.clone()))
        .collect();
    let word = |text: &str| SettingValue::Word(text.to_owned());
    assert_eq!(
        settings,
        [
            ("classes", SettingValue::Number(10.0)),
            ("sharing", word("full")),
            ("scale", SettingValue::Number(-0.25)),
            ("stem", SettingValue::Text("a; b # c".to_owned())),
            ("size", word("3-6-3")),
        ]
    );
}

#[test]
fn an_empty_network_is_a_network() {
    for source in ["", " ; \n # nothing", ";;\n"] {
        assert_eq!(
            network(source),
            Network {
                base: None,
                stages: vec![],
                settings: vec![]
            }
        );
    }
}

#[test]
fn a_line_goes_on_after_an_operator_and_in_parentheses_only() {
    assert_eq!(
        network("A: I +\n F ->\n 2-way x\n2").stages[0]
            .modules()
            .len(),
        3
    );
    assert_eq!(
        network("A: F\nG").base.map(|base| base.value).as_deref(),
        Some("G")
    );
    assert!(parse_network("A: F\n-> G").is_err());
    assert!(parse_polynomial("F\nG").is_ok());
}

#[test]
fn normalized_networks_stand_on_one_line_in_one_spelling() {
    let source = "\n# head\nir-3-6-3;\n;A :2-way×10# ten\n B:( F_2 → (I+G) F ^2)* 3\nclasses=10;\n";
    let syntax = ast::Network::parse(source).expect(source);
    assert_eq!(syntax.to_string(), source);
    let normalized = "ir-3-6-3; A: 2-way x10; B: (F2 -> (I + G)F^2) x3; classes = 10";
    assert_eq!(syntax.normalized(), normalized);
    assert_eq!(
        ast::Network::parse(normalized)
            .expect(normalized)
            .to_string(),
        normalized
    );
}

/// Where each text goes wrong, and how the message begins.
fn check_errors<T: std::fmt::Debug>(
    parse: fn(&str) -> Result<T, Error>,
    cases: &[(&str, &str, &str)],
) {
    let mut wrong = Vec::new();
    for &(source, place, message) in cases {
        let error = parse(source).expect_err(source);
        let found = (&source[error.span().range()], error.to_string());
        if found.0 != place || !found.1.contains(message) {
            wrong.push(format!("{source:?}: at {:?}\n{}", found.0, found.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn errors_in_polynomials_point_at_the_place() {
    check_errors(
        parse_polynomial,
        &[
            (
                "",
                "",
                "expected a module (`2-way`, `I + F + GF`), a block (`F`) or `(`, found the end of the text",
            ),
            ("I +", "", "found the end of the text"),
            ("I + + F", "+", "found `+`"),
            ("I - F", "-", "there is no subtraction"),
            ("(I + F", "", "expected `)`"),
            (
                "I + F)",
                ")",
                "expected `+`, `^`, a block or the end, found `)`",
            ),
            ("I + F^", "", "expected an exponent such as 3"),
            ("I + F^G", "G", "expected an exponent such as 3, found `G`"),
            ("F^2^3", "^", "write parentheses: `(F^2)^3`"),
            ("I + I2", "I2", "expected a block"),
            ("I + 2", "2", "expected a module"),
            ("I + polly-3", "polly-3", "help: did you mean `poly-3`?"),
            ("poly-3 2-way", "poly-3", "join modules by `->`"),
            ("F(I + poly-0)", "poly-0", "the order must be at least 1"),
            ("I + F -> G", "->", "arrows join the modules of a sequence"),
            (
                "I + F x3",
                "x3",
                "only the modules of a sequence are repeated",
            ),
            ("I + F; G", ";", "found `;`"),
            ("I + Ω", "Ω", "found `Ω`"),
            ("I + \u{1b}[2J", "\u{1b}", "found `\\u{1b}`"),
        ],
    );
}

#[test]
fn errors_in_sequences_point_at_the_place() {
    check_errors(
        parse_sequence,
        &[
            ("2-way ->", "", "found the end of the text"),
            ("2-way x", "", "expected a count such as 3"),
            ("2-way x0", "0", "a repetition must be at least 1"),
            (
                "2-way x2 x3",
                "x3",
                "expected `->`, `x` and a count, or the end, found `x3`",
            ),
            ("2-way poly-3", "2-way", "join modules by `->`"),
            (
                "2-wayx10",
                "2-wayx10",
                "write a space before the repetition: `2-way x10`",
            ),
            ("(2-way -> F)^2", "^", "repeat a sequence with `x 2`"),
            ("(2-way -> F", "", "expected `)`"),
            ("F(2-way -> F)", "->", "arrows join the modules"),
            (
                "F x 99999999999",
                "99999999999",
                "the sequence is over the limit of 10000 modules",
            ),
            (
                "(F x5000 -> G x5000) x3",
                "3",
                "over the limit of 10000 modules",
            ),
            (
                "F x99999999999999999999999",
                "99999999999999999999999",
                "the number is too large",
            ),
        ],
    );
}

#[test]
fn errors_in_networks_point_at_the_place() {
    check_errors(
        parse_network,
        &[
            ("I + F", "+", "a stage starts with its label"),
            ("A: F; B: G\nA: H", "A", "stage `A` is given twice"),
            ("a = 1; a = 2", "a", "setting `a` is given twice"),
            (
                "ir-3-6-3; ir-5-10-5",
                "ir-5-10-5",
                "preset `ir-5-10-5` is given twice",
            ),
            ("A:", "", "expected a module"),
            (
                "A: F B: G",
                ":",
                "expected `->`, `x` and a count, `;` or the end of the line, found `:`",
            ),
            (
                "a = ",
                "",
                "expected a number, a word or a text in double quotes",
            ),
            ("a = \n1", "", "found the end of the line"),
            ("a = 1 2", "2", "expected `;` or the end of the line"),
            (
                "a = 1.2.3",
                "1.2.3",
                "put any other value into double quotes",
            ),
            ("a = 1e999", "1e999", "the number is too large"),
            ("a = \"b\nc\"", "\"", "no closing"),
            ("(2-way) x3", "(", "expected a stage"),
            (
                "A: 5000-way x3; B: 5000-way",
                "5000-way",
                "the polynomial is over the limit",
            ),
            (
                "A: F x6000; B: F x6000",
                "6000",
                "over the limit of 10000 modules",
            ),
        ],
    );
    let error = parse_network("A: F; B: G\nA: H").expect_err("twice");
    assert_eq!(error.span().start, 11);
    assert!(matches!(error.kind(), ErrorKind::Duplicate { .. }));
}

#[test]
fn hostile_texts_are_refused() {
    let open = "(".repeat(10_000);
    let sources = [
        "F^1000000000".to_owned(),
        "I+F^99999999999999999999999999999".to_owned(),
        "((I+F)^64)^64".to_owned(),
        "(I+F)^1000000000".to_owned(),
        "(I+I)^1000000000".to_owned(),
        "10000000000000-way".to_owned(),
        "(((100-way)^9)^9)^9".to_owned(),
        "F".repeat(60_000),
        "F+".repeat(30_000) + "F",
        "(I+F)^12 + I + ".repeat(4_000) + "F",
        "F^".repeat(30_000),
        open.clone(),
        format!("{open}F{}", ")".repeat(10_000)),
        format!("{}F", "F(".repeat(10_000)),
        "F + ".repeat(1_000_000) + "F",
        "a".repeat(5_000_000),
        "1".repeat(60_000),
        format!("poly-{}", "1".repeat(60_000)),
        "x1".repeat(30_000),
        "→".repeat(20_000),
        " ".repeat(10_000_000),
    ];
    for source in &sources {
        let start: String = source.chars().take(20).collect();
        let error = parse_polynomial(source).expect_err(&start).to_string();
        assert!(error.len() < 1_000, "{start}");
        assert!(parse_sequence(source).is_err(), "{start}");
        assert!(parse_network(&format!("A: {source}")).is_err(), "{start}");
    }
    let stages: String = (0..6_000)
        .map(|stage| format!("A{stage}:(I+F)^12\n"))
        .collect();
    let tower = format!("{}F x10000{}", "F x10000 -> (".repeat(60), ")".repeat(60));
    let wide = format!("({}) x10000", "I + ".repeat(9_000) + "F");
    for source in [
        stages,
        format!("A: {tower}"),
        format!("A: {wide}"),
        "A: F x 99999999999".to_owned(),
    ] {
        assert!(parse_network(&source).is_err());
    }
}

/// Pieces that grammar-shaped noise is made of.
const PIECES: [&str; 34] = [
    "I",
    "F",
    "G",
    "F2",
    "_",
    "2",
    "0",
    "99999999999999999999",
    "-",
    ">",
    "->",
    "→",
    "x",
    "×",
    "*",
    "^",
    "+",
    "(",
    ")",
    "(",
    ")",
    ":",
    ";",
    "=",
    "\n",
    " ",
    "#",
    "\"",
    "poly-2",
    "3-way",
    "residual",
    "A",
    ".",
    "é",
];

fn noise() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24)
        .prop_map(|pieces| pieces.concat());
    prop_oneof![2 => pieces, 1 => any::<String>()]
}

/// A sequence in some spelling, and its modules.
fn spelled_sequences() -> impl Strategy<Value = (String, Vec<String>)> {
    let modules = [
        "2-way",
        "poly-3",
        "I + F",
        "(I+F)^2",
        "I + (I + G) F",
        "F2",
        "( I )",
    ];
    let leaf = prop::sample::select(modules.to_vec())
        .prop_map(|text| (text.to_owned(), vec![text.to_owned()]));
    leaf.prop_recursive(3, 12, 3, |inner| {
        let arrows = prop::sample::select(vec![" -> ", "→", "->", " →\n"]);
        let times = prop::sample::select(vec![" x", " × ", "*", " x "]);
        (prop::collection::vec(inner, 2..4), arrows, times, 1usize..4).prop_map(
            |(parts, arrow, times, count)| {
                let text = parts
                    .iter()
                    .map(|(text, _)| text.as_str())
                    .collect::<Vec<_>>()
                    .join(arrow);
                let once: Vec<String> =
                    parts.into_iter().flat_map(|(_, modules)| modules).collect();
                (
                    format!("({text}){times}{count}"),
                    vec![once; count].concat(),
                )
            },
        )
    })
}

proptest! {
    #[test]
    fn no_text_panics_and_what_parses_prints_back(text in noise()) {
        let _ = parse_polynomial(&text).map_err(|error| error.to_string());
        let _ = parse_sequence(&text).map_err(|error| error.to_string());
        let _ = parse_network(&text).map_err(|error| error.to_string());
        if let Ok(syntax) = ast::Polynomial::parse(&text) {
            prop_assert_eq!(syntax.to_string(), text.as_str());
        }
        if let Ok(syntax) = ast::Stage::parse(&text) {
            prop_assert_eq!(syntax.to_string(), text.as_str());
        }
        if let Ok(syntax) = ast::Network::parse(&text) {
            prop_assert_eq!(syntax.to_string(), text.as_str());
        }
    }

    #[test]
    fn every_spelling_of_a_network_prints_back_and_means_its_modules(
        stages in prop::collection::vec(spelled_sequences(), 0..4),
        separator in prop::sample::select(vec!["; ", "\n", " ;\n\n", "# end\n"]),
    ) {
        let clauses = stages.iter().enumerate().map(|(index, (text, _))| format!("{index} : {text}"));
        let source = clauses.collect::<Vec<_>>().join(separator);
        let syntax = ast::Network::parse(&source).expect("in the grammar");
        prop_assert_eq!(syntax.to_string(), source.as_str());
        prop_assert_eq!(&ast::Network::parse(&syntax.to_string()).expect("it parsed before"), &syntax);
        for (stage, (_, modules)) in network(&source).stages.iter().zip(&stages) {
            let found: Vec<String> = stage.modules().into_iter().map(|module| module.text).collect();
            prop_assert_eq!(&found, modules);
        }
        let normalized = syntax.normalized();
        let polynomials = |network: &Network| {
            let stages = network.stages.iter().map(|stage| stage.modules());
            stages.map(|modules| modules.into_iter().map(|module| module.polynomial).collect()).collect()
        };
        let (before, after): (Vec<Vec<_>>, Vec<Vec<_>>) =
            (polynomials(&network(&source)), polynomials(&network(&normalized)));
        prop_assert_eq!(before.len(), stages.len());
        prop_assert_eq!(before, after);
    }
}

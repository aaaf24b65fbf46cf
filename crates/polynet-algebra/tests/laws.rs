//! The laws of the algebra on random polynomials.
//!
//! A [`Recipe`] is an expression that knows nothing of canonical forms. It is built through the
//! public constructors, written as text, and evaluated directly, step by step, on numbers, with
//! blocks that are hash functions: as nonlinear as can be, and unequal operators collide with a
//! chance of 2⁻⁶⁴.

use std::collections::BTreeSet;

use polynet_algebra::ast::{self, Syntax};
use polynet_algebra::{Block, Error, Polynomial, Term, Value, parse_polynomial};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Recipe {
    Identity,
    Block(usize),
    Name(&'static str, Vec<Recipe>),
    Sum(Vec<Recipe>),
    /// The last factor is applied first.
    Product(Vec<Recipe>),
    Power(Box<Recipe>, usize),
}

use Recipe::{Identity, Name, Power, Product, Sum};

fn recipes() -> impl Strategy<Value = Recipe> {
    let chain = |word: &[usize]| Product(word.iter().map(|&block| Recipe::Block(block)).collect());
    let leaf = prop_oneof![
        2 => Just(Identity),
        6 => (0usize..3).prop_map(Recipe::Block),
        1 => Just(Name("residual", vec![Identity, Recipe::Block(0)])),
        1 => Just(Name("2-way", vec![Identity, Recipe::Block(0), Recipe::Block(1)])),
        1 => Just(Name("poly-2", vec![Identity, Recipe::Block(0), chain(&[0, 0])])),
        1 => Just(Name("mpoly-2", vec![Identity, Recipe::Block(0), chain(&[1, 0])])),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Sum),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Product),
            (inner, 0usize..4).prop_map(|(inner, exponent)| Power(Box::new(inner), exponent)),
        ]
    })
}

/// The polynomial, through the constructors; fails where it is too large.
fn build(recipe: &Recipe) -> Result<Polynomial, Error> {
    let all = |parts: &[Recipe]| parts.iter().map(build).collect::<Result<Vec<_>, _>>();
    match recipe {
        Identity => Ok(Polynomial::identity()),
        Recipe::Block(index) => Ok(Polynomial::block(Block::nth(*index))),
        Name(_, parts) | Sum(parts) => Polynomial::sum(all(parts)?),
        Product(parts) => {
            let compose = |outer: Polynomial, inner| outer.compose(&inner);
            all(parts)?
                .into_iter()
                .try_fold(Polynomial::identity(), compose)
        }
        Power(inner, exponent) => build(inner)?.pow(*exponent),
    }
}

/// The value at `x` by the meaning of the expression alone.
fn evaluate(recipe: &Recipe, x: u64) -> u64 {
    match recipe {
        Identity => x,
        Recipe::Block(index) => apply(Block::nth(*index), &x),
        Name(_, parts) | Sum(parts) => parts
            .iter()
            .map(|part| evaluate(part, x))
            .fold(0, u64::wrapping_add),
        Product(parts) => parts
            .iter()
            .rev()
            .fold(x, |value, part| evaluate(part, value)),
        Power(inner, exponent) => (0..*exponent).fold(x, |value, _| evaluate(inner, value)),
    }
}

/// A nonlinear block: SplitMix64 of the input and the block's name.
fn apply(block: Block, x: &u64) -> u64 {
    let name = u64::from(block.letter()) << 32 | block.subscript().unwrap_or(0);
    let mut state = x ^ name.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for multiplier in [
        0xbf58_476d_1ce4_e5b9u64,
        0x94d0_49bb_1331_11eb,
        0x9e37_79b9_7f4a_7c15,
    ] {
        state = (state ^ state >> 29).wrapping_mul(multiplier);
    }
    state ^ state >> 32
}

fn add(left: &u64, right: &u64) -> u64 {
    left.wrapping_add(*right)
}

fn naive(polynomial: &Polynomial, x: u64) -> u64 {
    polynomial.evaluate_naive(&x, apply, add)
}

/// The recipe as text; `spelling` deals out blanks and brackets that mean nothing.
fn write(recipe: &Recipe, spelling: &mut impl Iterator<Item = u8>) -> String {
    const BLANKS: [&str; 8] = ["", "", "", " ", "  ", "\t", "\n", " # I + ( \n"];
    let mut blank = || BLANKS[usize::from(spelling.next().unwrap_or(0)) % BLANKS.len()];
    let (before, after) = (blank(), blank());
    let text = match recipe {
        Identity => "I".to_owned(),
        Recipe::Block(index) => Block::nth(*index).to_string(),
        Name(name, _) => format!("({name})"),
        Sum(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| write(part, spelling)).collect();
            format!("({})", parts.join("+"))
        }
        Product(parts) => parts.iter().map(|part| write(part, spelling)).collect(),
        Power(inner, exponent) => format!("({}){before}^{after}{exponent}", write(inner, spelling)),
    };
    format!("{before}{text}{after}")
}

/// Polynomials that are not too large.
fn polynomials() -> impl Strategy<Value = Polynomial> {
    recipes().prop_filter_map("too large", |recipe| build(&recipe).ok())
}

/// The distinct applications inside a polynomial, by their texts.
fn applications(polynomial: &Polynomial, found: &mut BTreeSet<String>) {
    for term in polynomial.terms() {
        if let Term::Apply { argument, .. } = term {
            found.insert(term.to_string());
            applications(argument, found);
        }
    }
}

proptest! {
    #[test]
    fn plan_naive_evaluation_and_direct_evaluation_agree(recipe in recipes(), x: u64) {
        let Ok(polynomial) = build(&recipe) else { return Ok(()) };
        let direct = evaluate(&recipe, x);
        prop_assert_eq!(naive(&polynomial, x), direct);
        prop_assert_eq!(polynomial.plan().evaluate(&x, |block, _, x| apply(block, x), add), direct);
    }

    #[test]
    fn polynomials_are_equal_exactly_if_their_operators_are(a in polynomials(), b in polynomials(), x: u64) {
        prop_assert_eq!(a == b, naive(&a, x) == naive(&b, x));
        prop_assert_eq!(a == b, a.to_string() == b.to_string());
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
    }

    #[test]
    fn a_plan_evaluates_every_distinct_operator_once_after_its_inputs(polynomial in polynomials()) {
        let plan = polynomial.plan();
        let mut distinct = BTreeSet::new();
        applications(&polynomial, &mut distinct);
        prop_assert_eq!(plan.evaluations.len(), distinct.len());
        for (index, evaluation) in plan.evaluations.iter().enumerate() {
            for value in &evaluation.input {
                prop_assert!(!matches!(value, Value::Evaluation(earlier) if earlier >= index));
            }
            let same = plan.evaluations[..index].iter().filter(|other| other.block == evaluation.block);
            prop_assert_eq!(evaluation.use_index, same.count());
        }
        let uses = polynomial.blocks().into_iter().map(|block| plan.uses(block));
        prop_assert_eq!(uses.sum::<usize>(), plan.evaluations.len());
    }

    #[test]
    fn counts_are_those_of_the_written_out_terms(polynomial in polynomials()) {
        let mut letters = 0;
        let paths = polynomial.evaluate_naive(&1u64, |_, x| { letters += 1; *x }, |a, b| a + b);
        prop_assert_eq!(polynomial.paths(), paths);
        prop_assert_eq!(polynomial.letters(), letters);
        prop_assert_eq!(polynomial.plan().naive_evaluations(), letters);
        let order = polynomial.evaluate_naive(&0usize, |_, x| x + 1, |a, b| *a.max(b));
        prop_assert_eq!(polynomial.order(), order);
    }

    #[test]
    fn canonical_and_cascaded_texts_read_back(polynomial in polynomials()) {
        let text = polynomial.to_string();
        let again = parse_polynomial(&text).expect("canonical text parses");
        prop_assert_eq!(&again, &polynomial);
        prop_assert_eq!(again.to_string(), text);
        let cascaded = parse_polynomial(&polynomial.cascaded()).expect("cascaded text parses");
        prop_assert_eq!(cascaded, polynomial);
    }

    #[test]
    fn every_spelling_means_the_same_and_prints_back_exactly(
        recipe in recipes(),
        spelling in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let Ok(polynomial) = build(&recipe) else { return Ok(()) };
        let text = write(&recipe, &mut spelling.into_iter().cycle());
        let syntax = ast::Polynomial::parse(&text).expect("the text is in the grammar");
        prop_assert_eq!(syntax.to_string(), text.as_str());
        prop_assert_eq!(&ast::Polynomial::parse(&syntax.to_string()).expect("it parsed before"), &syntax);
        prop_assert_eq!(&parse_polynomial(&text).expect("no larger than built"), &polynomial);
        let normalized = syntax.normalized();
        prop_assert_eq!(parse_polynomial(&normalized).expect("normalized text parses"), polynomial);
        let again = ast::Polynomial::parse(&normalized).expect("normalized text parses");
        prop_assert_eq!(again.normalized(), normalized);
    }

    #[test]
    fn sums_commute_composition_associates_and_distributes_from_the_right(
        a in polynomials(), b in polynomials(), c in polynomials(),
    ) {
        let sum = |x: &Polynomial, y: &Polynomial| Polynomial::sum([x.clone(), y.clone()]);
        prop_assert_eq!(sum(&a, &b).ok(), sum(&b, &a).ok());
        let left = a.compose(&b).and_then(|ab| ab.compose(&c)).ok();
        let right = b.compose(&c).and_then(|bc| a.compose(&bc)).ok();
        if left.is_some() && right.is_some() {
            prop_assert_eq!(left, right);
        }
        let spread = a.compose(&c).and_then(|ac| sum(&ac, &b.compose(&c)?)).ok();
        prop_assert_eq!(sum(&a, &b).and_then(|ab| ab.compose(&c)).ok(), spread);
        let identity = Polynomial::identity();
        prop_assert_eq!(&a.compose(&identity).expect("no larger"), &a);
        prop_assert_eq!(&identity.compose(&a).expect("no larger"), &a);
    }
}

fn polynomial(text: &str) -> Polynomial {
    text.parse().expect(text)
}

#[test]
fn the_canonical_form_follows_the_laws_and_no_others() {
    for (text, canonical) in [
        ("G + F + I", "I + F + G"),
        ("HGF + GF + I + F", "I + F + GF + HGF"),
        ("I + (I + G)F", "I + F + GF"),
        ("(I + F)^2", "I + F + F(I + F)"),
        ("(I + F)(I + G)", "I + G + F(I + G)"),
        ("F(G + H)", "F(G + H)"),
        ("F(FF)F^2", "F^5"),
        ("F^0 I I^1000000000", "I"),
        ("F + F", "F + F"),
        ("(F + G)^2H", "F(FH + GH) + G(FH + GH)"),
        ("F_02 + F2 + F + F0", "F + F0 + F2 + F2"),
        ("F F(I + F)", "F^2(I + F)"),
        ("F^2G^2F", "F^2G^2F"),
        ("mpoly-2 + FG", "I + F + FG + GF"),
        ("(2-way)(poly-1)", "I + F + F(I + F) + G(I + F)"),
    ] {
        assert_eq!(polynomial(text).to_string(), canonical, "{text}");
    }
    for (left, right) in [
        ("FG", "GF"),
        ("F(I + G)", "F + FG"),
        ("F", "F + F"),
        ("(I+F)^2", "poly-2 + F"),
    ] {
        assert_ne!(polynomial(left), polynomial(right));
    }
}

#[test]
fn the_cascaded_form_is_the_one_of_the_paper() {
    for (text, cascaded, evaluations, saved) in [
        ("I", "I", 0, 0),
        ("I + F + GF", "I + (I + G)F", 2, 1),
        ("poly-3", "I + (I + (I + F)F)F", 3, 3),
        ("mpoly-3", "I + (I + (I + H)G)F", 3, 3),
        ("3-way", "I + F + G + H", 3, 0),
        ("I + GF + HF", "I + (G + H)F", 3, 1),
        ("I + F^2G + HFG", "I + (F + H)FG", 4, 2),
        ("I + F^3", "I + F^3", 3, 0),
        ("F + F", "(I + I)F", 1, 1),
        ("(I + F)^2", "I + F + F(I + F)", 2, 1),
        (
            "(I + F)^12",
            &polynomial("(I + F)^12").to_string(),
            12,
            4083,
        ),
    ] {
        let plan = polynomial(text).plan();
        assert_eq!(plan.cascaded(), cascaded);
        assert_eq!(
            (plan.evaluations.len(), plan.evaluations_saved()),
            (evaluations, saved),
            "{text}"
        );
    }
}

#[test]
fn a_plan_prints_its_steps() {
    for (text, steps) in [
        ("I", "out = x"),
        ("mpoly-2", "y1 = F(x); y2 = G(y1); out = x + y1 + y2"),
        (
            "F(I + F) + F + F",
            "y1 = F(x); y2 = F(x + y1); out = y1 + y1 + y2",
        ),
    ] {
        assert_eq!(polynomial(text).plan().to_string(), steps);
    }
    let uses: Vec<usize> = polynomial("poly-3 + G")
        .plan()
        .evaluations
        .iter()
        .map(|evaluation| evaluation.use_index)
        .collect();
    assert_eq!(uses, [0, 0, 1, 2]);
}

#[test]
fn a_name_is_found_up_to_renaming_of_blocks_only() {
    for (text, name) in [
        ("I + B", Some("residual")),
        ("I + A + BA", Some("mpoly-2")),
        ("I + Z + AZ + BAZ", Some("mpoly-3")),
        ("I + X2 + X2 X2", Some("poly-2")),
        ("I + B + A", Some("2-way")),
        ("I", None),
        ("F", None),
        ("F + G", None),
        ("I + I + F", None),
        ("I + F + F", None),
        ("I + F^2", None),
        ("I + F + FG", None),
        ("I + F + GF + FGF", None),
        ("I + F + F^2 + GF", None),
        ("(I + F)^2", None),
    ] {
        assert_eq!(polynomial(text).name().as_deref(), name, "{text}");
    }
}

#[test]
fn arithmetic_beyond_the_limits_is_refused() {
    let block = Polynomial::block(Block::nth(0));
    let residual = Polynomial::way(1).expect("small");
    let tower = residual.pow(12).expect("within the limit");
    for result in [
        block.pow(usize::MAX),
        residual.pow(usize::MAX),
        tower.pow(2),
        tower.compose(&tower),
        Polynomial::sum([]),
        Polynomial::sum(vec![Polynomial::identity(); 10_001]),
        Polynomial::poly(usize::MAX),
        Polynomial::mpoly(257),
        Polynomial::way(usize::MAX),
        Polynomial::way(0),
        block.pow(256).and_then(|power| power.compose(&block)),
    ] {
        let error = result.expect_err("over a limit").to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
    assert_eq!(block.pow(256).expect("at the limit").order(), 256);
    assert_eq!(
        Polynomial::identity()
            .pow(usize::MAX)
            .expect("the identity"),
        Polynomial::identity()
    );
}

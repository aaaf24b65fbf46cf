//! What a text means: from [`crate::ast`] to polynomials, modules and clauses.
//!
//! ```
//! use polynet_algebra::{parse_network, parse_sequence};
//!
//! let modules = parse_sequence("(3-way -> mpoly-3) x2 -> I + F")?;
//! let texts: Vec<&str> = modules.iter().map(|module| module.text.as_str()).collect();
//! assert_eq!(texts, ["3-way", "mpoly-3", "3-way", "mpoly-3", "I + F"]);
//!
//! let network = parse_network("very-deep-polynet; B: poly-3 x10; classes = 10")?;
//! assert_eq!(network.base.unwrap().value, "very-deep-polynet");
//! assert_eq!(network.stages[0].modules().len(), 10);
//! # Ok::<(), polynet_algebra::Error>(())
//! ```

use std::str::FromStr;

use crate::ast::{self, Atom, Clause, Factor, ItemBody, Part, Product, Syntax, Token};
use crate::error::{Error, ErrorKind, Span, Spanned};
use crate::parser::MAX_DEPTH;
use crate::polynomial::{MAX_SIZE, Polynomial};

/// The most modules of one text after repetition.
pub const MAX_MODULES: usize = 10_000;

/// The most blocks and identities, written out in full, of everything that one text builds: of the
/// largest polynomial, whose text has a sum in a sum as deep as a text may go, and no more. Bounds the
/// time that a text takes.
pub const MAX_TOTAL_SIZE: usize = (MAX_DEPTH + 1) * MAX_SIZE;

/// The most bytes that the texts of all modules of a text take after repetition.
const MAX_MODULE_TEXT: usize = 1024 * 1024;

/// A module of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// What it computes.
    pub polynomial: Polynomial,
    /// How it was written, without its repetition: `2-way`, `I + (I + G)F`.
    pub text: String,
    /// Where it was written.
    pub span: Span,
}

/// A whole network as written. That its preset, labels and keys exist is for the reader to say,
/// with [`Error::custom`] where they don't.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The preset to start from.
    pub base: Option<Spanned<String>>,
    /// The stages in the order of the text; their labels differ.
    pub stages: Vec<StageSyntax>,
    /// The settings in the order of the text; their keys differ.
    pub settings: Vec<Setting>,
}

/// A stage as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSyntax {
    /// The label: `A`, `2`.
    pub label: Spanned<String>,
    /// Where the clause stands.
    pub span: Span,
    modules: Vec<Module>,
}

impl StageSyntax {
    /// The modules in order, repetitions written out; never empty.
    pub fn modules(&self) -> Vec<Module> {
        self.modules.clone()
    }
}

/// A setting as written: `residual-scale = 0.3`.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// What is set.
    pub key: Spanned<String>,
    /// To what.
    pub value: Spanned<SettingValue>,
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingValue {
    /// `0.3`, `-1e-3`: finite.
    Number(f64),
    /// `full`, `3-6-3`: letters, digits, dashes and underscores.
    Word(String),
    /// `"a text"`, without its quotes.
    Text(String),
}

/// Reads a polynomial: `I + F + GF`, `I + (I + G)F`, `(I + F)^2`, `poly-3`.
pub fn parse_polynomial(source: &str) -> Result<Polynomial, Error> {
    Reader::new(source).sum(&ast::Polynomial::parse(source)?.root)
}

/// Reads the modules of a stage, repetitions written out: `(3-way -> mpoly-3 -> poly-3) x 4`.
pub fn parse_sequence(source: &str) -> Result<Vec<Module>, Error> {
    Reader::new(source).sequence(&ast::Stage::parse(source)?.root)
}

/// Reads a network: `A: 2-way x10; B: (poly-3 -> 2-way) x10; C: (poly-3 -> 2-way) x5`.
pub fn parse_network(source: &str) -> Result<Network, Error> {
    let syntax = ast::Network::parse(source)?;
    let mut reader = Reader::new(source);
    let mut network = Network {
        base: None,
        stages: Vec::new(),
        settings: Vec::new(),
    };
    for part in &syntax.root.parts {
        if let Part::Clause(clause) = part {
            reader.clause(clause, &mut network)?;
        }
    }
    Ok(network)
}

impl FromStr for Polynomial {
    type Err = Error;

    fn from_str(source: &str) -> Result<Self, Error> {
        parse_polynomial(source)
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(source: &str) -> Result<Self, Error> {
        parse_network(source)
    }
}

/// Gives meaning to the syntax of one text, within the limits.
struct Reader<'s> {
    source: &'s str,
    size: usize,
    modules: usize,
}

impl<'s> Reader<'s> {
    fn new(source: &'s str) -> Self {
        Self {
            source,
            size: 0,
            modules: 0,
        }
    }

    fn sum(&mut self, sum: &ast::Sum) -> Result<Polynomial, Error> {
        let products = sum.elements().map(|product| self.product(product));
        let mut products: Vec<Polynomial> = products.collect::<Result<_, _>>()?;
        match (products.pop(), products.is_empty()) {
            (Some(only), true) => Ok(only),
            (last, _) => self.built(Polynomial::sum(products.into_iter().chain(last)), sum),
        }
    }

    fn product(&mut self, product: &Product) -> Result<Polynomial, Error> {
        let mut composed = Polynomial::identity();
        for factor in product.factors.iter().rev() {
            let outer = self.factor(factor)?;
            let result = outer.compose(&composed);
            composed = match &factor {
                // One letter before what is there already.
                Factor {
                    atom: Atom::Block(..),
                    power: None,
                    ..
                } => self.placed(result, factor)?,
                _ => self.built(result, factor)?,
            };
        }
        Ok(composed)
    }

    fn factor(&mut self, factor: &Factor) -> Result<Polynomial, Error> {
        let atom = match &factor.atom {
            Atom::Identity(_) => Ok(Polynomial::identity()),
            Atom::Block(_, block) => Ok(Polynomial::block(*block)),
            Atom::Name(name) => Polynomial::named(&name.text),
            Atom::Group(group) => self.sum(&group.inner),
        };
        // Errors inside a group have their place already.
        let atom = match &factor.atom {
            Atom::Group(_) => atom?,
            atom_syntax => self.built(atom, atom_syntax)?,
        };
        match &factor.power {
            None => Ok(atom),
            Some((_, exponent)) => self.built(atom.pow(exponent.value), factor),
        }
    }

    /// Says where an error happened.
    fn placed(
        &self,
        result: Result<Polynomial, Error>,
        node: &impl Syntax,
    ) -> Result<Polynomial, Error> {
        result.map_err(|error| error.at(self.source, node.span()))
    }

    /// Says where an error happened, and counts what was built.
    fn built(
        &mut self,
        result: Result<Polynomial, Error>,
        node: &impl Syntax,
    ) -> Result<Polynomial, Error> {
        let polynomial = self.placed(result, node)?;
        self.size += polynomial.size();
        let limit = MAX_TOTAL_SIZE;
        let over = ErrorKind::OverLimit {
            what: "the text",
            limit,
            unit: "blocks and identities in all",
        };
        if self.size <= limit {
            Ok(polynomial)
        } else {
            Err(self.error(over, node))
        }
    }

    fn error(&self, kind: ErrorKind, node: &impl Syntax) -> Error {
        Error::new(kind, self.source, node.span())
    }

    fn sequence(&mut self, sequence: &ast::Sequence) -> Result<Vec<Module>, Error> {
        let mut modules: Vec<Module> = Vec::new();
        let mut bytes = 0usize;
        for item in sequence.elements() {
            let once = match &item.body {
                ItemBody::Module(sum) => vec![self.module(sum)?],
                ItemBody::Group(group) => self.sequence(&group.inner)?,
            };
            let count = item
                .repetition
                .as_ref()
                .map_or(1, |(_, number)| number.value);
            let length = once.len().saturating_mul(count);
            let once_bytes: usize = once.iter().map(|module| module.text.len()).sum();
            bytes = bytes.saturating_add(once_bytes.saturating_mul(count));
            self.check_expansion(modules.len().saturating_add(length), bytes, item)?;
            modules.extend(once.into_iter().cycle().take(length));
        }
        Ok(modules)
    }

    /// Whether a sequence may come to so many modules and bytes of their texts with this item.
    fn check_expansion(&self, modules: usize, bytes: usize, item: &ast::Item) -> Result<(), Error> {
        let (limit, unit) = if self.modules.saturating_add(modules) > MAX_MODULES {
            (MAX_MODULES, "modules")
        } else if bytes > MAX_MODULE_TEXT {
            (
                MAX_MODULE_TEXT,
                "bytes once its repetitions are written out",
            )
        } else {
            return Ok(());
        };
        let kind = ErrorKind::OverLimit {
            what: "the sequence",
            limit,
            unit,
        };
        let place = item
            .repetition
            .as_ref()
            .map_or_else(|| item.span(), |(_, number)| number.span());
        Err(Error::new(kind, self.source, place))
    }

    fn module(&mut self, sum: &ast::Sum) -> Result<Module, Error> {
        let span = sum.span();
        let text = self.source[span.range()].to_owned();
        Ok(Module {
            polynomial: self.sum(sum)?,
            text,
            span,
        })
    }

    fn clause(&mut self, clause: &Clause, network: &mut Network) -> Result<(), Error> {
        match clause {
            Clause::Preset(name) => {
                self.check_new("preset", name, network.base.is_some())?;
                network.base = Some(spanned(name));
            }
            Clause::Stage {
                label, sequence, ..
            } => {
                let is_taken = network
                    .stages
                    .iter()
                    .any(|stage| stage.label.value == label.text);
                self.check_new("stage", label, is_taken)?;
                let modules = self.sequence(sequence)?;
                self.modules += modules.len();
                network.stages.push(StageSyntax {
                    label: spanned(label),
                    span: clause.span(),
                    modules,
                });
            }
            Clause::Setting { key, value, .. } => {
                let is_taken = network
                    .settings
                    .iter()
                    .any(|setting| setting.key.value == key.text);
                self.check_new("setting", key, is_taken)?;
                let value = Spanned::new(self.setting_value(value)?, value.span);
                network.settings.push(Setting {
                    key: spanned(key),
                    value,
                });
            }
        }
        Ok(())
    }

    fn check_new(&self, what: &'static str, name: &Token, is_taken: bool) -> Result<(), Error> {
        let duplicate = ErrorKind::Duplicate {
            what,
            name: name.text.clone(),
        };
        if is_taken {
            Err(self.error(duplicate, name))
        } else {
            Ok(())
        }
    }

    fn setting_value(&self, token: &Token) -> Result<SettingValue, Error> {
        let text = token.text.as_str();
        if let Some(quoted) = text.strip_prefix('"') {
            return Ok(SettingValue::Text(
                quoted.strip_suffix('"').unwrap_or(quoted).to_owned(),
            ));
        }
        // `inf` and `nan` are words, whatever Rust's number syntax says.
        let is_numeric =
            text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
        match text.parse::<f64>() {
            Ok(number) if is_numeric && number.is_finite() => {
                return Ok(SettingValue::Number(number));
            }
            Ok(_) if is_numeric => return Err(self.error(ErrorKind::NumberTooLarge, token)),
            _ => {}
        }
        let is_word = !text.starts_with('-') && !text.contains(['.', '+']);
        let expected = ErrorKind::Expected {
            expected: "a number, a word or a text in double quotes".to_owned(),
            found: format!("`{}`", text.chars().take(40).collect::<String>()),
            help: Some("put any other value into double quotes".to_owned()),
        };
        if is_word {
            Ok(SettingValue::Word(text.to_owned()))
        } else {
            Err(self.error(expected, token))
        }
    }
}

fn spanned(token: &Token) -> Spanned<String> {
    Spanned::new(token.text.clone(), token.span)
}

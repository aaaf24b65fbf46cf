//! Faithful syntax: what was written, down to the last space.
//!
//! Every node owns its [`Token`]s, and a token owns the blanks and comments before it, so that
//! printing a tree gives exactly the text it was read from. [`Syntax::normalized`] prints the
//! same structure in one spelling.
//!
//! ```text
//! network    := [clause] (separator [clause])*            separator: `;` or the end of a line
//! clause     := label `:` sequence | key `=` value | preset
//! sequence   := item (arrow item)*                        arrow: `->` or `→`
//! item       := (sum | `(` sequence `)`) [times number]   times: `x`, `×` or `*`
//! sum        := product (`+` product)*
//! product    := factor+ | name                            first factor applied last
//! factor     := (letter | `(` sum `)` | name) [`^` number]
//! letter     := an uppercase letter, then perhaps a subscript: `F`, `F2`, `F_2`; `I` is the identity
//! name       := `poly-k` | `mpoly-k` | `k-way` | `residual`
//! ```
//!
//! A parenthesis in a sequence that holds an arrow or a repetition is a sequence, any other one
//! is a polynomial. A repetition applies to the whole sum before it: `I + F x3` is three modules.
//!
//! ```
//! use polynet_algebra::ast::{self, Syntax};
//!
//! let network = ast::Network::parse("A:2-way ×10 ; B: I + (I+G) F  # cascaded")?;
//! assert_eq!(network.to_string(), "A:2-way ×10 ; B: I + (I+G) F  # cascaded");
//! assert_eq!(network.normalized(), "A: 2-way x10; B: I + (I + G)F");
//! # Ok::<(), polynet_algebra::Error>(())
//! ```

use crate::block::Block;
use crate::error::{Error, Span};
use crate::parser::Parser;
pub use crate::syntax::Syntax;

/// A piece of the text, with the blanks and comments before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Blanks and comments before the text.
    pub leading: String,
    /// The text as spelled.
    pub text: String,
    /// Where the text stands, without what leads it.
    pub span: Span,
}

/// The kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `F`, `F2`, `F_2`, `I`.
    Letter,
    /// A module's or preset's name, a stage's label, a setting's key.
    Name,
    /// A count.
    Number,
    /// A setting's value.
    Value,
    /// `+`
    Plus,
    /// `^`
    Caret,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `->` or `→`
    Arrow,
    /// `x`, `×` or `*`
    Times,
    /// `:`
    Colon,
    /// `=`
    Equals,
    /// `;` or the end of a line
    Separator,
    /// The end of the text, which leads with the last blanks.
    End,
}

/// `first (mark next)*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T> {
    /// The first element.
    pub first: T,
    /// The others, each after its mark.
    pub rest: Vec<(Token, T)>,
}

impl<T> List<T> {
    /// The elements without the marks between them; never empty.
    pub fn elements(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(self.rest.iter().map(|(_, element)| element))
    }
}

/// Products joined by `+`.
pub type Sum = List<Product>;

/// Items joined by arrows.
pub type Sequence = List<Item>;

/// Factors written side by side; the last one is applied first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The factors in the order of the text.
    pub factors: Vec<Factor>,
}

/// An atom, perhaps to a power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// What is raised.
    pub atom: Atom,
    /// `^` and the exponent.
    pub power: Option<(Token, Number)>,
}

/// The smallest operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Atom {
    /// `I`.
    Identity(Token),
    /// A block.
    Block(Token, Block),
    /// The name of a module.
    Name(Token),
    /// A sum in parentheses.
    Group(Group<Sum>),
}

/// Something in parentheses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<T> {
    /// `(`
    pub open: Token,
    /// What is inside.
    pub inner: Box<T>,
    /// `)`
    pub close: Token,
}

/// A count and how it is spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// The spelling.
    pub token: Token,
    /// The count.
    pub value: usize,
}

/// One module or a sequence in parentheses, perhaps repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is repeated.
    pub body: ItemBody,
    /// The sign of repetition and the count.
    pub repetition: Option<(Token, Number)>,
}

/// What an item of a sequence is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemBody {
    /// One module.
    Module(Sum),
    /// A sequence in parentheses.
    Group(Group<Sequence>),
}

/// A whole network: clauses and separators in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSyntax {
    /// The parts; between two clauses stands at least one separator.
    pub parts: Vec<Part>,
}

/// A clause or what separates clauses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `;` or the end of a line.
    Separator(Token),
    /// A clause.
    Clause(Clause),
}

/// What a network is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clause {
    /// `very-deep-polynet`: the preset to start from.
    Preset(Token),
    /// `A: 2-way x10`
    Stage {
        /// The stage's label.
        label: Token,
        /// `:`
        colon: Token,
        /// The modules.
        sequence: Box<Sequence>,
    },
    /// `residual-scale = 0.3`
    Setting {
        /// The setting's name.
        key: Token,
        /// `=`
        equals: Token,
        /// A number, a word, or a text in double quotes.
        value: Token,
    },
}

/// A whole text of one of the three levels: a [`Sum`], a [`Sequence`] or a [`NetworkSyntax`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<T> {
    /// What the text says.
    pub root: T,
    /// The end of the text, with the blanks before it.
    pub end: Token,
}

/// The text of one polynomial.
pub type Polynomial = Text<Sum>;

/// The text of one stage's modules.
pub type Stage = Text<Sequence>;

/// The text of a network.
pub type Network = Text<NetworkSyntax>;

impl Text<Sum> {
    /// Reads a polynomial; what it means is [`crate::parse_polynomial`]'s to say.
    pub fn parse(source: &str) -> Result<Self, Error> {
        Parser::new(source)?.whole(Parser::sum)
    }
}

impl Text<Sequence> {
    /// Reads a sequence; what it means is [`crate::parse_sequence`]'s to say.
    pub fn parse(source: &str) -> Result<Self, Error> {
        Parser::new(source)?.whole(Parser::sequence)
    }
}

impl Text<NetworkSyntax> {
    /// Reads a network; what it means is [`crate::parse_network`]'s to say.
    pub fn parse(source: &str) -> Result<Self, Error> {
        Parser::new(source)?.by_lines().whole(Parser::network)
    }
}

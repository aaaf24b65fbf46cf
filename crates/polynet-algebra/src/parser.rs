//! From text to [`crate::ast`], by recursive descent without a separate lexer: whether `A` is a
//! block, a label or part of a name depends on where it stands. The grammar heads `ast`.
//!
//! Every token is taken by [`Parser::take`], which moves forward over blanks and comments and
//! keeps them, so nothing of the text can get lost. Depth and length are limited
//! ([`MAX_DEPTH`], [`MAX_TEXT`]); time is linear in the text times the depth.

use crate::ast::{
    Atom, Clause, Factor, Group, Item, ItemBody, List, NetworkSyntax, Number, Part, Product,
    Sequence, Sum, Syntax, Text, Token, TokenKind,
};
use crate::block::Block;
use crate::error::{Error, ErrorKind, Span};
use crate::scan::{
    arrow, hint, holds_sequence, is_letters, is_repetition, letter, starts_factor, word,
};

/// The longest text, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// The most parentheses inside each other.
pub const MAX_DEPTH: usize = 64;

const MODULE: &str = "a module (`2-way`, `I + F + GF`), a block (`F`) or `(`";
const CLAUSE: &str = "a stage (`A: 2-way x10`), a setting (`key = value`) or the name of a preset";

pub(crate) struct Parser<'s> {
    source: &'s str,
    position: usize,
    /// Parentheses open at this place.
    depth: usize,
    lines: Lines,
    /// Up to here the text is known to be letters: each letter need not look at the whole word.
    letters_end: usize,
    /// What the innermost list may go on with, for errors.
    follow: &'static str,
}

/// Whether the end of a line ends a clause, outside parentheses and after a complete operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    Separate,
    Blank,
}

impl<'s> Parser<'s> {
    pub(crate) fn new(source: &'s str) -> Result<Self, Error> {
        if source.len() > MAX_TEXT {
            let kind = ErrorKind::OverLimit {
                what: "the text",
                limit: MAX_TEXT,
                unit: "bytes",
            };
            return Err(Error::new(kind, source, Span::new(MAX_TEXT, MAX_TEXT)));
        }
        Ok(Self {
            source,
            position: 0,
            depth: 0,
            lines: Lines::Blank,
            letters_end: 0,
            follow: "the end",
        })
    }

    pub(crate) fn by_lines(self) -> Self {
        Self {
            lines: Lines::Separate,
            ..self
        }
    }

    /// The root and nothing after it.
    pub(crate) fn whole<T>(
        mut self,
        root: fn(&mut Self) -> Result<T, Error>,
    ) -> Result<Text<T>, Error> {
        let root = root(&mut self)?;
        let at = self.skip(Lines::Blank);
        if at < self.source.len() {
            return Err(self.expected(self.follow, at));
        }
        Ok(Text {
            root,
            end: self.take(TokenKind::End, at, 0),
        })
    }

    /// See `sum` in the grammar.
    pub(crate) fn sum(&mut self) -> Result<Sum, Error> {
        let plus = |rest: &str| rest.starts_with('+').then_some(1);
        let sum = self.list(TokenKind::Plus, plus, Self::product)?;
        self.follow = "`+`, `^`, a block or the end";
        Ok(sum)
    }

    /// See `sequence` in the grammar.
    pub(crate) fn sequence(&mut self) -> Result<Sequence, Error> {
        let sequence = self.list(TokenKind::Arrow, arrow, Self::item)?;
        self.follow = "`->`, `x` and a count, or the end";
        Ok(sequence)
    }

    fn list<T>(
        &mut self,
        kind: TokenKind,
        mark: fn(&str) -> Option<usize>,
        element: fn(&mut Self) -> Result<T, Error>,
    ) -> Result<List<T>, Error> {
        let first = element(self)?;
        let mut rest = Vec::new();
        loop {
            let at = self.skip(self.lines);
            let Some(length) = mark(&self.source[at..]) else {
                break;
            };
            let mark = self.take(kind, at, length);
            rest.push((mark, element(self)?));
        }
        Ok(List { first, rest })
    }

    fn product(&mut self) -> Result<Product, Error> {
        let mut factors = vec![self.factor()?];
        while starts_factor(&self.source[self.skip(self.lines)..]) {
            factors.push(self.factor()?);
        }
        let name = factors
            .iter()
            .find(|factor| matches!(factor.atom, Atom::Name(_)));
        match name {
            Some(name) if factors.len() > 1 => {
                let help = "join modules by `->`, or compose polynomials in parentheses: `(2-way)(poly-2)`";
                let message = "a module's name stands beside another operator";
                Err(Error::custom(
                    self.source,
                    name.span(),
                    message,
                    Some(help.to_owned()),
                ))
            }
            _ => Ok(Product { factors }),
        }
    }

    fn factor(&mut self) -> Result<Factor, Error> {
        let atom = self.atom()?;
        let at = self.skip(self.lines);
        if !self.source[at..].starts_with('^') {
            return Ok(Factor { atom, power: None });
        }
        let caret = self.take(TokenKind::Caret, at, 1);
        let exponent = self.number("an exponent")?;
        let next = self.skip(self.lines);
        if self.source[next..].starts_with('^') {
            let help = "write parentheses: `(F^2)^3`".to_owned();
            let place = Span::new(next, next + 1);
            return Err(Error::custom(
                self.source,
                place,
                "a power of a power is ambiguous",
                Some(help),
            ));
        }
        Ok(Factor {
            atom,
            power: Some((caret, exponent)),
        })
    }

    fn atom(&mut self) -> Result<Atom, Error> {
        let at = self.skip(Lines::Blank);
        let rest = &self.source[at..];
        if rest.starts_with('(') {
            return Ok(Atom::Group(self.group(at, Self::sum)?));
        }
        let word = if at < self.letters_end {
            ""
        } else {
            word(rest)
        };
        if is_letters(word) {
            self.letters_end = at + word.len();
        }
        if at < self.letters_end {
            return self.letter(at);
        }
        let is_name = word.starts_with(|first: char| first.is_ascii_alphanumeric());
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        if !is_name || is_number || is_repetition(rest) {
            return Err(self.expected(MODULE, at));
        }
        Ok(Atom::Name(self.take(TokenKind::Name, at, word.len())))
    }

    fn letter(&mut self, at: usize) -> Result<Atom, Error> {
        let token = self.take(TokenKind::Letter, at, letter(&self.source[at..]));
        if token.text == "I" {
            return Ok(Atom::Identity(token));
        }
        let block = token
            .text
            .parse::<Block>()
            .map_err(|error| error.at(self.source, token.span))?;
        Ok(Atom::Block(token, block))
    }

    fn group<T>(
        &mut self,
        at: usize,
        inner: fn(&mut Self) -> Result<T, Error>,
    ) -> Result<Group<T>, Error> {
        let open = self.take(TokenKind::Open, at, 1);
        if self.depth == MAX_DEPTH {
            let kind = ErrorKind::OverLimit {
                what: "the nesting",
                limit: MAX_DEPTH,
                unit: "parentheses",
            };
            return Err(Error::new(kind, self.source, open.span));
        }
        self.depth += 1;
        let lines = std::mem::replace(&mut self.lines, Lines::Blank);
        let inner = Box::new(inner(self)?);
        let end = self.skip(Lines::Blank);
        if !self.source[end..].starts_with(')') {
            return Err(self.expected("`)`", end));
        }
        let close = self.take(TokenKind::Close, end, 1);
        self.depth -= 1;
        self.lines = lines;
        Ok(Group { open, inner, close })
    }

    fn item(&mut self) -> Result<Item, Error> {
        let at = self.skip(Lines::Blank);
        let body = if self.source[at..].starts_with('(') && holds_sequence(&self.source[at..]) {
            ItemBody::Group(self.group(at, Self::sequence)?)
        } else {
            ItemBody::Module(self.sum()?)
        };
        let at = self.skip(self.lines);
        let sign = self.source[at..]
            .chars()
            .next()
            .filter(|sign| matches!(sign, 'x' | '×' | '*'));
        let repetition = match sign {
            Some(sign) => {
                let times = self.take(TokenKind::Times, at, sign.len_utf8());
                let count = self.number("a count")?;
                if count.value == 0 {
                    let kind = ErrorKind::Zero {
                        what: "a repetition",
                    };
                    return Err(Error::new(kind, self.source, count.token.span));
                }
                Some((times, count))
            }
            None => None,
        };
        Ok(Item { body, repetition })
    }

    fn number(&mut self, what: &str) -> Result<Number, Error> {
        let at = self.skip(Lines::Blank);
        let length = self.source[at..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        if length == 0 {
            return Err(self.expected(&format!("{what} such as 3"), at));
        }
        let token = self.take(TokenKind::Number, at, length);
        let too_large = |_| Error::new(ErrorKind::NumberTooLarge, self.source, token.span);
        let value = token.text.parse().map_err(too_large)?;
        Ok(Number { token, value })
    }

    /// See `network` in the grammar.
    pub(crate) fn network(&mut self) -> Result<NetworkSyntax, Error> {
        let mut parts: Vec<Part> = Vec::new();
        loop {
            let at = self.skip(Lines::Separate);
            let rest = &self.source[at..];
            if rest.is_empty() {
                self.follow = CLAUSE;
                return Ok(NetworkSyntax { parts });
            }
            if rest.starts_with([';', '\n']) {
                parts.push(Part::Separator(self.take(TokenKind::Separator, at, 1)));
            } else if matches!(parts.last(), Some(Part::Clause(_))) {
                return Err(self.expected(self.follow, at));
            } else {
                parts.push(Part::Clause(self.clause(at)?));
            }
        }
    }

    fn clause(&mut self, at: usize) -> Result<Clause, Error> {
        let length = word(&self.source[at..]).len();
        if length == 0 {
            return Err(self.expected(CLAUSE, at));
        }
        let name = self.take(TokenKind::Name, at, length);
        let at = self.skip(Lines::Separate);
        match self.source[at..].chars().next() {
            Some(':') => {
                let colon = self.take(TokenKind::Colon, at, 1);
                let sequence = Box::new(self.sequence()?);
                self.follow = "`->`, `x` and a count, `;` or the end of the line";
                Ok(Clause::Stage {
                    label: name,
                    colon,
                    sequence,
                })
            }
            Some('=') => {
                let equals = self.take(TokenKind::Equals, at, 1);
                let value = self.value()?;
                self.follow = "`;` or the end of the line";
                Ok(Clause::Setting {
                    key: name,
                    equals,
                    value,
                })
            }
            None | Some(';' | '\n') => Ok(Clause::Preset(name)),
            Some(_) => {
                let error = self.expected("`:`, `=`, `;` or the end of the line", at);
                let help = "a stage starts with its label: `A: I + F + GF -> 2-way x10`";
                Err(with_help(error, self.source, help))
            }
        }
    }

    fn value(&mut self) -> Result<Token, Error> {
        let at = self.skip(Lines::Separate);
        let rest = &self.source[at..];
        let length = match rest.strip_prefix('"') {
            Some(text) => match text.find(['"', '\n']) {
                Some(end) if text[end..].starts_with('"') => end + 2,
                _ => {
                    let place = Span::new(at, at + 1);
                    return Err(Error::custom(
                        self.source,
                        place,
                        "the text has no closing `\"`",
                        None,
                    ));
                }
            },
            None => rest
                .bytes()
                .take_while(|byte| byte.is_ascii_alphanumeric() || b"_-+.".contains(byte))
                .count(),
        };
        if length == 0 {
            return Err(self.expected("a number, a word or a text in double quotes", at));
        }
        Ok(self.take(TokenKind::Value, at, length))
    }

    /// The place after the blanks and comments that start here.
    fn skip(&self, lines: Lines) -> usize {
        let mut rest = &self.source[self.position..];
        loop {
            let is_blank = |c: char| c.is_whitespace() && (lines == Lines::Blank || c != '\n');
            rest = rest.trim_start_matches(is_blank);
            if !rest.starts_with('#') {
                return self.source.len() - rest.len();
            }
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        }
    }

    /// Moves over the text of `length` bytes at `start`, and over the blanks before it.
    fn take(&mut self, kind: TokenKind, start: usize, length: usize) -> Token {
        let span = Span::new(start, start + length);
        let token = Token {
            kind,
            leading: self.source[self.position..start].to_owned(),
            text: self.source[span.range()].to_owned(),
            span,
        };
        self.position = span.end;
        token
    }

    /// The error that something else was expected at that place.
    fn expected(&self, expected: &str, at: usize) -> Error {
        let rest = &self.source[at..];
        let (found, length) = match rest.chars().next() {
            None => ("the end of the text".to_owned(), 0),
            Some('\n') => ("the end of the line".to_owned(), 0),
            Some(first) => {
                let length = arrow(rest).unwrap_or_else(|| word(rest).len().max(first.len_utf8()));
                let shown: String = rest[..length].chars().take(40).collect();
                (
                    format!("`{}`", shown.escape_debug().to_string().replace("\\'", "'")),
                    length,
                )
            }
        };
        let help = hint(rest).map(str::to_owned);
        let kind = ErrorKind::Expected {
            expected: expected.to_owned(),
            found,
            help,
        };
        Error::new(kind, self.source, Span::new(at, at + length))
    }
}

fn with_help(error: Error, source: &str, help: &str) -> Error {
    match error.kind().clone() {
        ErrorKind::Expected {
            expected, found, ..
        } => Error::new(
            ErrorKind::Expected {
                expected,
                found,
                help: Some(help.to_owned()),
            },
            source,
            error.span(),
        ),
        _ => error,
    }
}

//! Walks over [`crate::ast`]: the exact and the normalized printer, and where a node stands.
//!
//! All three visit the tokens of a node in the order of the text. `I+F×2` prints exactly as
//! `I+F×2` and normalized as `I + F x2`.

use std::fmt;

use crate::ast::{
    Atom, Clause, Factor, Group, Item, ItemBody, List, NetworkSyntax, Number, Part, Product, Text,
    Token, TokenKind,
};
use crate::error::Span;

/// Every node of the tree.
pub trait Syntax {
    /// Visits the node's tokens in the order of the text.
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token));

    /// Where the node stands, without the blanks around it.
    fn span(&self) -> Span {
        let mut span: Option<Span> = None;
        self.visit(&mut |token| span = Some(span.map_or(token.span, |whole| whole.to(token.span))));
        span.unwrap_or_default()
    }

    /// The node in one spelling: single spaces, `->`, ` x3`, no comments, clauses on one line.
    fn normalized(&self) -> String {
        let mut text = String::new();
        let mut is_separated = false;
        self.visit(&mut |token| match token.kind {
            TokenKind::Separator => is_separated = true,
            TokenKind::End => {}
            _ => {
                if is_separated && !text.is_empty() {
                    text.push_str("; ");
                }
                is_separated = false;
                push_normalized(&mut text, token);
            }
        });
        text
    }
}

fn push_normalized(text: &mut String, token: &Token) {
    match token.kind {
        TokenKind::Plus => text.push_str(" + "),
        TokenKind::Arrow => text.push_str(" -> "),
        TokenKind::Times => text.push_str(" x"),
        TokenKind::Colon => text.push_str(": "),
        TokenKind::Equals => text.push_str(" = "),
        TokenKind::Letter => text.push_str(&token.text.replace('_', "")),
        _ => text.push_str(&token.text),
    }
}

impl Syntax for Token {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        visitor(self);
    }
}

impl Syntax for Number {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        visitor(&self.token);
    }
}

impl<A: Syntax, B: Syntax> Syntax for (A, B) {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.0.visit(visitor);
        self.1.visit(visitor);
    }
}

impl<T: Syntax> Syntax for Vec<T> {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.iter().for_each(|node| node.visit(visitor));
    }
}

impl<T: Syntax> Syntax for Option<T> {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.iter().for_each(|node| node.visit(visitor));
    }
}

impl<T: Syntax> Syntax for List<T> {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.first.visit(visitor);
        self.rest.visit(visitor);
    }
}

impl<T: Syntax> Syntax for Group<T> {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.open.visit(visitor);
        self.inner.visit(visitor);
        self.close.visit(visitor);
    }
}

impl Syntax for Product {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.factors.visit(visitor);
    }
}

impl Syntax for Factor {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.atom.visit(visitor);
        self.power.visit(visitor);
    }
}

impl Syntax for Atom {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        match self {
            Self::Identity(token) | Self::Block(token, _) | Self::Name(token) => visitor(token),
            Self::Group(group) => group.visit(visitor),
        }
    }
}

impl Syntax for Item {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.body.visit(visitor);
        self.repetition.visit(visitor);
    }
}

impl Syntax for ItemBody {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        match self {
            Self::Module(sum) => sum.visit(visitor),
            Self::Group(group) => group.visit(visitor),
        }
    }
}

impl Syntax for NetworkSyntax {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.parts.visit(visitor);
    }
}

impl Syntax for Part {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        match self {
            Self::Separator(token) => visitor(token),
            Self::Clause(clause) => clause.visit(visitor),
        }
    }
}

impl Syntax for Clause {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        match self {
            Self::Preset(name) => visitor(name),
            Self::Stage {
                label,
                colon,
                sequence,
            } => {
                visitor(label);
                visitor(colon);
                sequence.visit(visitor);
            }
            Self::Setting { key, equals, value } => {
                [key, equals, value].into_iter().for_each(visitor);
            }
        }
    }
}

impl<T: Syntax> Syntax for Text<T> {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Token)) {
        self.root.visit(visitor);
        self.end.visit(visitor);
    }
}

impl<T: Syntax> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = Ok(());
        self.visit(&mut |token| {
            result = result.and_then(|()| write!(f, "{}{}", token.leading, token.text));
        });
        result
    }
}

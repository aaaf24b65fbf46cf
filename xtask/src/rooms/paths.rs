//! The paths that a Rust file names: in `use`, and inline as `crate::data::read_image(path)`.
//!
//! `use super::{a, b::{self, C as D}}` in the module `grow::tensors` names `crate::grow::a`,
//! `crate::grow::b` and `crate::grow::b::C`.

use super::tokens::{Token, tokens};

/// A path that begins at a crate's root, or the word `unsafe`, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// All that the file of a module names, from crates' roots: `crate` for its own.
///
/// A path that begins with a name of the module itself looks like one of another crate.
pub(super) fn of_file(text: &str, module: &[String]) -> Vec<Use> {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        module: module.to_vec(),
        blocks: Vec::new(),
        found: Vec::new(),
    };
    while reader.at < reader.tokens.len() {
        reader.item();
    }
    reader.found
}

/// What a `{` has opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Module,
    Other,
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    /// The module around the token, with those written inside the file.
    module: Vec<String>,
    blocks: Vec<Block>,
    found: Vec<Use>,
}

impl Reader<'_> {
    fn text(&self, ahead: usize) -> &str {
        self.tokens
            .get(self.at + ahead)
            .map_or("", |token| token.text)
    }

    /// Reads one token, or a path as a whole.
    fn item(&mut self) {
        match self.text(0) {
            "mod" if self.text(2) == "{" => {
                self.module.push(self.text(1).to_owned());
                self.blocks.push(Block::Module);
                self.at += 3;
            }
            "{" => {
                self.blocks.push(Block::Other);
                self.at += 1;
            }
            "}" => {
                if self.blocks.pop() == Some(Block::Module) {
                    self.module.pop();
                }
                self.at += 1;
            }
            "unsafe" => self.found("unsafe"),
            "use" => {
                self.at += 1;
                self.tree(&[]);
            }
            "extern" if self.text(1) == "crate" => {
                self.at += 2;
                self.tree(&[]);
            }
            word if is_name(word) && self.text(1) == "::" => self.tree(&[]),
            _ => self.at += 1,
        }
    }

    fn found(&mut self, word: &str) {
        let line = self.tokens[self.at].line;
        self.found.push(Use {
            path: vec![word.to_owned()],
            line,
        });
        self.at += 1;
    }

    /// `a::b`, `a::{b, c::*}`, `a as b`, after a prefix.
    fn tree(&mut self, prefix: &[String]) {
        if self.text(0) == "::" {
            self.at += 1;
        }
        let mut path = prefix.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        loop {
            match self.text(0) {
                "{" => return self.branches(&path),
                word if is_name(word) => path.push(word.to_owned()),
                // `*`, or the type of `path::<Type>`.
                _ => break,
            }
            self.at += 1;
            if self.text(0) != "::" {
                break;
            }
            self.at += 1;
        }
        let path = self.resolved(path);
        if !path.is_empty() {
            self.found.push(Use { path, line });
        }
    }

    fn branches(&mut self, prefix: &[String]) {
        self.at += 1;
        while !matches!(self.text(0), "}" | "") {
            let before = self.at;
            self.tree(prefix);
            while !matches!(self.text(0), "," | "}" | "") {
                self.at += 1; // `as name`, `*`
            }
            if self.text(0) == "," || self.at == before {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    /// The path with `self` and `super` replaced by what they stand for here.
    fn resolved(&self, path: Vec<String>) -> Vec<String> {
        let starts_here = path
            .first()
            .is_some_and(|first| first == "self" || first == "super");
        let mut from_root = Vec::new();
        if starts_here {
            from_root.push("crate".to_owned());
            from_root.extend(self.module.iter().cloned());
        }
        for part in path {
            match part.as_str() {
                "super" => {
                    from_root.pop();
                }
                "self" => {}
                _ => from_root.push(part),
            }
        }
        from_root
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|sign: char| sign.is_alphabetic() || sign == '_')
}

#[cfg(test)]
mod tests {
    use super::of_file;

    /// `line path` of each use in the module `a::b`.
    fn uses(text: &str) -> Vec<String> {
        let module = ["a", "b"].map(str::to_owned);
        let found = of_file(text, &module).into_iter();
        found
            .map(|used| format!("{} {}", used.line, used.path.join("::")))
            .collect()
    }

    #[test]
    fn trees_of_imports_are_read_branch_by_branch() {
        let text = "use crate::x::{self, Y as Z, v::{\n  T, *}};\npub(crate) use d;\nuse {crate::e, ::f::g};";
        assert_eq!(
            uses(text),
            [
                "1 crate::x",
                "1 crate::x::Y",
                "2 crate::x::v::T",
                "2 crate::x::v",
                "3 d",
                "4 crate::e",
                "4 f::g"
            ]
        );
    }

    #[test]
    fn inline_paths_are_uses() {
        let text = "fn f(x: &crate::x::T) -> u8 {\n  burn::g::<crate::y::U>(x).h() }";
        assert_eq!(uses(text), ["1 crate::x::T", "2 burn::g", "2 crate::y::U"]);
    }

    #[test]
    fn super_and_self_are_resolved() {
        let text = "use super::c; use super::super::d::E; use self::f;\n\
                    mod tests { use super::*; use super::super::g; mod m { use super::h; } }\n\
                    use super::i;";
        assert_eq!(
            uses(text),
            [
                "1 crate::a::c",
                "1 crate::d::E",
                "1 crate::a::b::f",
                "2 crate::a::b",
                "2 crate::a::g",
                "2 crate::a::b::tests::h",
                "3 crate::a::i"
            ]
        );
    }

    #[test]
    fn unsafe_is_found_in_code_alone() {
        let text = "// unsafe\n#![deny(unsafe_code)]\nfn f() { unsafe { g() } }";
        assert_eq!(uses(text), ["3 unsafe"]);
    }
}

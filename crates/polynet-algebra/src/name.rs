//! The names of modules.
//!
//! | name | polynomial |
//! |---|---|
//! | `residual` | `I + F` |
//! | `poly-k` | `I + F + F^2 + … + F^k` |
//! | `mpoly-k` | `I + F + GF + HGF + …`, of order `k` |
//! | `k-way` | `I + F + G + H + …`, with `k` blocks |
//!
//! (§3.1 of the paper, which has them for `k` of 2 and 3.)

use crate::block::Block;
use crate::error::{Error, ErrorKind, Span};
use crate::polynomial::Polynomial;
use crate::spelling::nearest;

impl Polynomial {
    /// The name of the module that this is up to renaming of its blocks, if it has one:
    /// `I + A + BA` is `mpoly-2`. Numbered names start at 2, and `I + F` is `residual`.
    pub fn name(&self) -> Option<String> {
        let words = self.words()?;
        let [[], words @ ..] = &words.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] else {
            return None;
        };
        let longest: &[Block] = words.last()?;
        let count = words.len();
        if words.iter().all(|word| word.len() == 1) {
            let distinct = words.windows(2).all(|pair| pair[0] != pair[1]);
            return match count {
                1 => Some("residual".to_owned()),
                _ if distinct => Some(format!("{count}-way")),
                _ => None,
            };
        }
        let is_chain = longest.len() == count
            && words
                .iter()
                .enumerate()
                .all(|(index, word)| *word == &longest[..=index]);
        if !is_chain {
            return None;
        }
        match self.blocks().len() {
            1 => Some(format!("poly-{count}")),
            blocks if blocks == count => Some(format!("mpoly-{count}")),
            _ => None,
        }
    }

    /// The module of that name: see [`Polynomial::name`]. Fails if there is none, if its number
    /// is 0, or if it is too large.
    pub fn named(name: &str) -> Result<Self, Error> {
        let module = module(name).unwrap_or_else(|| Err(Error::unplaced(unknown_module(name))));
        module.map_err(|error| error.at(name, Span::new(0, name.len())))
    }
}

/// The module of that name, or `None` if the text has the form of no name.
fn module(name: &str) -> Option<Result<Polynomial, Error>> {
    let numbered = |digits: Option<&str>, build: fn(usize) -> Result<Polynomial, Error>| {
        let digits = digits.filter(|digits| is_number(digits))?;
        let number = digits
            .parse()
            .map_err(|_| Error::unplaced(ErrorKind::NumberTooLarge));
        Some(number.and_then(build))
    };
    if name == "residual" {
        return Some(Polynomial::way(1));
    }
    numbered(name.strip_prefix("poly-"), Polynomial::poly)
        .or_else(|| numbered(name.strip_prefix("mpoly-"), Polynomial::mpoly))
        .or_else(|| numbered(name.strip_suffix("-way"), Polynomial::way))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The error for a name that is no module, with what may have been meant.
fn unknown_module(name: &str) -> ErrorKind {
    // The number is taken from the name, so that `polly-7` is told of `poly-7`.
    let digits: String = name.chars().filter(char::is_ascii_digit).take(9).collect();
    let number = if digits.is_empty() { "2" } else { &digits };
    let candidates = [
        format!("poly-{number}"),
        format!("mpoly-{number}"),
        format!("{number}-way"),
        "residual".to_owned(),
    ];
    let (unit, repetition) = name.rsplit_once('x').unwrap_or((name, ""));
    let is_glued = is_number(repetition) && module(unit).is_some();
    let help = if is_glued {
        format!("write a space before the repetition: `{unit} x{repetition}`")
    } else if let Some(meant) = nearest(name, candidates.iter().map(String::as_str)) {
        format!("did you mean `{meant}`?")
    } else {
        "a module is `poly-2`, `mpoly-2`, `2-way` (or with another number), `residual`, or a polynomial \
         such as `I + F + GF`"
            .to_owned()
    };
    ErrorKind::UnknownModule {
        name: name.chars().take(60).collect(),
        help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_paper_give_its_polynomials_and_back() {
        for (name, text, saved) in [
            ("residual", "I + F", 0),
            ("poly-2", "I + F + F^2", 1),
            ("poly-3", "I + F + F^2 + F^3", 3),
            ("mpoly-2", "I + F + GF", 1),
            ("mpoly-3", "I + F + GF + HGF", 3),
            ("2-way", "I + F + G", 0),
            ("3-way", "I + F + G + H", 0),
            ("4-way", "I + F + G + H + J", 0),
        ] {
            let module = Polynomial::named(name).unwrap();
            assert_eq!(module.to_string(), text);
            assert_eq!(module.name().as_deref(), Some(name));
            assert_eq!(module.plan().evaluations_saved(), saved, "{name}");
        }
    }

    #[test]
    fn a_module_of_number_one_is_the_residual_unit() {
        for name in ["poly-1", "mpoly-1", "1-way"] {
            assert_eq!(
                Polynomial::named(name).unwrap().name().as_deref(),
                Some("residual")
            );
        }
    }

    #[test]
    fn long_modules_keep_their_names_past_the_alphabet() {
        for name in ["100-way", "poly-100", "mpoly-100"] {
            assert_eq!(
                Polynomial::named(name).unwrap().name().as_deref(),
                Some(name)
            );
        }
    }

    #[test]
    fn impossible_numbers_and_unknown_names_are_refused() {
        for (name, message) in [
            ("poly-0", "the order must be at least 1"),
            ("0-way", "the number of ways must be at least 1"),
            (
                "10000000000000-way",
                "the polynomial is over the limit of 10000",
            ),
            (
                "poly-10000000000000",
                "the order of the polynomial is over the limit of 256",
            ),
            ("mpoly-99999999999999999999999", "the number is too large"),
            ("poly-", "unknown module `poly-`"),
            ("+2-way", "unknown module"),
            ("polly-7", "did you mean `poly-7`?"),
            (
                "2-wayx10",
                "write a space before the repetition: `2-way x10`",
            ),
            ("resnet", "a module is `poly-2`"),
        ] {
            let error = Polynomial::named(name).unwrap_err().to_string();
            assert!(error.contains(message), "{name}: {error}");
        }
    }
}

//! The notation of the table of keys: one entry a key, and everything else follows from it.
//!
//! ```text
//! /// What the key is.
//! name: Type = default, range, …;     an absent key has the default; `Type::default()` where none stands
//! name: Type ["example"], range, …;   an absent key is an error that shows the example
//! ```
//!
//! From it come the public field with its documentation, reading with its checks, what the run folder
//! writes, and the [listing](super::listing). Defaults and ranges may use the keys above their own.

use super::read::Table;

/// A part of a recipe that is read from one table of it.
pub(super) trait Section: Sized {
    /// What it holds.
    const ABOUT: &'static str;

    /// Asks the table for every key.
    fn read(table: &mut Table<'_, '_>) -> Self;
}

/// The default of an entry, and the example of one that must be there.
macro_rules! absent {
    ($type:ty) => {
        (None, <$type>::default())
    };
    ($type:ty, [$example:literal]) => {
        (Some(stringify!($example)), <$type>::default())
    };
    ($type:ty, $default:expr) => {
        (None, $default)
    };
}

/// A struct of keys; before them the [`kinds!`] that add theirs, behind them whole sections.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $(#[derive($derived:ident)])?
        pub struct $name:ident {
            $(..$flat:ident: $flat_type:ty;)?
            $($(#[doc = $doc:literal])+ $key:ident: $type:ty
              $([$example:literal])? $(= $default:expr)? $(, $range:expr)*;)*
        }
        $(sections { $($section:ident: $section_type:ty;)+ })?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, $($derived,)? PartialEq, serde::Serialize)]
        pub struct $name {
            $(#[doc = "`kind` and the keys of that kind."] #[serde(flatten)] pub $flat: $flat_type,)?
            $($(#[doc = $doc])+ $(#[doc = concat!("\n\nDefault: `", stringify!($default), "`.")])?
              pub $key: $type,)*
            $($(#[doc = concat!("`[", stringify!($section), "]`")] pub $section: $section_type,)+)?
        }

        impl Section for $name {
            const ABOUT: &'static str = concat!($($about),+);

            fn read(table: &mut Table<'_, '_>) -> Self {
                $(let $flat = <$flat_type>::read(table);)?
                $(
                    let absent = absent!($type $(, [$example])? $(, $default)?);
                    let $key: $type = table.key(stringify!($key), concat!($($doc),+), absent);
                    $(table.check(&$key, &$range);)*
                )*
                $($(let $section = table.section(stringify!($section));)+)?
                Self { $($flat,)? $($key,)* $($($section),+)? }
            }
        }
    };
}

/// An enum of kinds: the word under `kind` says which other keys there are; the first is the default.
/// The key in parentheses is not kept: it gives others their defaults.
macro_rules! kinds {
    (
        $(#[doc = $about:literal])+
        pub enum $name:ident {
            $($(#[doc = $kind_about:literal])+ $kind:ident = $word:literal
              $(($(#[doc = $given_doc:literal])+ $given:ident: $given_type:ty = $given_default:expr))?
              $({
                  $($(#[doc = $doc:literal])+ $key:ident: $type:ty
                    $([$example:literal])? $(= $default:expr)? $(, $range:expr)*;)*
              })?,)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
        #[serde(tag = "kind")]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`:")] $(#[doc = $kind_about])+ #[serde(rename = $word)]
              $kind $({
                  $($(#[doc = $doc])+ $(#[doc = concat!("\n\nDefault: `", stringify!($default), "`.")])?
                    $key: $type,)*
              })?,)+
        }

        impl Section for $name {
            const ABOUT: &'static str = concat!($($about),+);

            fn read(table: &mut Table<'_, '_>) -> Self {
                words! { enum Kind { $($(#[doc = $kind_about])+ $kind = $word,)+ } }
                let kind = table.key("kind", "Says which other keys there are.", (None, [$(Kind::$kind),+][0]));
                table.kind = Some(Kind::WORDS[kind as usize].0);
                match kind {
                    $(Kind::$kind => {
                        $(let $given = table.key(
                            stringify!($given), concat!($($given_doc),+), (None, $given_default),
                        );)?
                        $($(
                            let absent = absent!($type $(, [$example])? $(, $default)?);
                            let $key: $type = table.key(stringify!($key), concat!($($doc),+), absent);
                            $(table.check(&$key, &$range);)*
                        )*)?
                        Self::$kind $({ $($key),* })?
                    })+
                }
            }
        }
    };
}

/// An enum of words, or the words of one from elsewhere.
macro_rules! words {
    (
        $(#[doc = $about:literal])*
        $visible:vis enum $name:ident {
            $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visible enum $name {
            $(#[doc = concat!("`", $word, "`:")] $(#[doc = $doc])+ $variant,)+
        }

        words! { impl $name { $($(#[doc = $doc])+ $variant = $word,)+ } }
    };
    (impl $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        impl Value for $name {
            const TYPE: &'static str = "word";
            const WORDS: &'static [(&'static str, &'static str)] = &[$(($word, concat!($($doc),+))),+];

            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                match value.as_str() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err(expected(&format!("one of {}", quoted(Self::WORDS)), value)),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}

//! The one error of the data room: what went wrong, and with which file.
//!
//! It prints as `where: what`, for example `photos.tar:train/cat/7.jpg: the file ends before
//! its image does`.

use std::borrow::Cow;

/// Something about a data set, an image or a description of how to load them is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", self.prefix(), printable(message))]
pub struct DataError {
    kind: DataErrorKind,
    location: Option<String>,
    message: String,
}

/// What sort of problem a [`DataError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataErrorKind {
    /// The operating system could not give the file or folder.
    Io,
    /// Folders and files are not laid out as a data set.
    Layout,
    /// There are no images where some must be.
    NoImages,
    /// A class that the model does not know.
    UnknownClass,
    /// A `.tar` that cannot be indexed.
    Archive,
    /// The bytes are not an image that can be decoded.
    Decode,
    /// An image or file beyond the documented limits.
    TooLarge,
    /// A setting that makes no sense.
    Configuration,
    /// A loading thread could not do its work.
    Worker,
}

/// A text that a terminal can be given: what would move its cursor or change its colours is escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    Cow::Owned(text.chars().map(escaped).collect())
}

impl DataError {
    pub(crate) fn new(kind: DataErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            location: None,
            message: message.into(),
        }
    }

    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(DataErrorKind::Configuration, message)
    }

    pub(crate) fn io(location: impl Into<String>, error: &std::io::Error) -> Self {
        Self::new(DataErrorKind::Io, error.to_string()).at(location)
    }

    /// The same error at `location`; a place already known is kept, because it is nearer.
    pub(crate) fn at(mut self, location: impl Into<String>) -> Self {
        self.location.get_or_insert_with(|| location.into());
        self
    }

    /// What sort of problem it is.
    pub fn kind(&self) -> DataErrorKind {
        self.kind
    }

    /// The file, folder or `archive.tar:member` concerned, where there is one.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The problem without its place.
    pub fn message(&self) -> &str {
        &self.message
    }

    fn prefix(&self) -> String {
        self.location
            .as_ref()
            .map_or_else(String::new, |location| format!("{}: ", printable(location)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_a_terminals_cursor_is_escaped() {
        let error = DataError::configuration("got \u{1B}[31mred").at("a\r\u{7}b");
        assert_eq!(error.to_string(), "a\\r\\u{7}b: got \\u{1b}[31mred");
        assert_eq!(printable("häuser 1.png"), "häuser 1.png");
    }
}

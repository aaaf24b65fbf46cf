//! How a server listens, batches and limits.

use polynet::{CompileOptions, Device, ModelOptions};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// How a server is run. By default it listens on the loopback address alone, to everybody there.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 is any that is free.
    pub address: SocketAddr,
    /// A folder of models that clients may load by the names of their folders.
    pub repository: Option<PathBuf>,
    /// A folder of training runs that the page at `/runs` shows.
    pub runs: Option<PathBuf>,
    /// Where the models compute. On the processor they share rayon's global pool.
    pub device: Device,
    /// How they are compiled for the processor.
    pub compile: CompileOptions,
    /// How waiting requests are computed together.
    pub batching: Batching,
    /// What is refused.
    pub limits: Limits,
    /// What a request must bring as `Authorization: Bearer`, but for the health of the server.
    pub token: Option<Token>,
    /// Web pages of which origins may ask, such as `https://example.org`.
    pub origins: Vec<String>,
    /// Whether clients load and unload models.
    pub control: Control,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            repository: None,
            runs: None,
            device: Device::default(),
            compile: CompileOptions::default(),
            batching: Batching::default(),
            limits: Limits::default(),
            token: None,
            origins: Vec::new(),
            control: Control::default(),
        }
    }
}

impl Options {
    pub(crate) fn model(&self) -> ModelOptions {
        ModelOptions {
            device: self.device,
            compile: self.compile,
            threads: None,
        }
    }
}

/// How waiting requests are computed together. While a batch is computed the next one gathers, so that
/// a busy server batches without a delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most images of a batch; a request of more is computed alone.
    pub images: usize,
    /// How long the first request of a batch that is not full waits for others.
    pub delay: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            images: 16,
            delay: Duration::ZERO,
        }
    }
}

/// What is refused, and when clients are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Images that wait or are decoded or computed; requests beyond them are answered 503.
    pub queue: usize,
    /// How long a request waits for its answer once it has been read, before it is answered 504. A
    /// request may ask for less.
    pub deadline: Duration,
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of all bodies that are held at once.
    pub bodies: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// Bytes that decoding one picture may take, about three for each pixel of a JPEG.
    pub picture: u64,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// How long a client may take for a request's head, for its body, or without taking a byte of its
    /// answer; also how long a connection may be idle.
    pub patience: Duration,
    /// How long accepted requests may take to end when the server is stopped.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 256,
            deadline: Duration::from_secs(30),
            body: 32 << 20,
            bodies: 512 << 20,
            head: 32 << 10,
            picture: 512 << 20,
            connections: 1024,
            patience: Duration::from_secs(30),
            grace: Duration::from_secs(30),
        }
    }
}

/// Whether clients load and unload models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Control {
    /// The models are those that the server was started with.
    #[default]
    Fixed,
    /// Clients load, replace and unload models.
    ByClients,
}

/// A secret that clients bring. It is compared in constant time and never printed.
#[derive(Clone)]
pub struct Token(Vec<u8>);

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its file cannot be read.
    #[error("{}: cannot read the token: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It cannot stand in a header.
    #[error(
        "expected a token of at least 16 letters, digits or signs of ASCII without a space, such as \
         `openssl rand -hex 32` gives; got one that is not"
    )]
    Unusable,
}

impl Token {
    /// A token of at least 16 visible ASCII characters; white space around it is left out.
    ///
    /// # Errors
    /// If it is none.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let bytes = text.trim().as_bytes();
        if bytes.len() < 16 || !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Unusable);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The token in a file.
    ///
    /// # Errors
    /// If the file cannot be read or has none.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path).map_err(|source| TokenError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::new(&text)
    }

    /// Whether these are its bytes. The time that it takes tells their number at most.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        self.0.as_slice().ct_eq(bytes).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_visible_and_is_not_printed() {
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        assert!(!token.is(b"0123456789abcdeF"));
        assert!(!token.is(b"0123456789abcdef0"));
        assert_eq!(format!("{token:?}"), "Token(…)");
        for text in ["", "short", "0123456789 abcdef", "0123456789abcdé€"] {
            assert!(Token::new(text).is_err(), "{text}");
        }
    }
}

//! What one image file is: format, colours, size, and whether it decodes.

use std::hash::{DefaultHasher, Hasher};

use serde::Serialize;

use crate::data::picture::{Format, decode, traits};

/// Pixels beyond which an image costs much more time than any training needs: 25 million.
pub const OVERSIZED_PIXELS: u64 = 25_000_000;

/// Something worth knowing about an image file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Finding {
    /// It can't be read or decoded; training would stop here.
    Broken {
        /// What is wrong and what to do.
        reason: String,
    },
    /// The file has no bytes; training would stop here.
    Empty,
    /// Its extension is that of another format; it is read by its content all the same.
    WrongName {
        /// What the content is.
        content: &'static str,
    },
    /// Grey; the three channels will be alike.
    Grey,
    /// Ink colours; they are converted without a colour profile.
    Cmyk,
    /// 16 bits a channel; the upper 8 are used.
    Deep,
    /// Partly transparent, as far as the format says; transparency is dropped.
    Alpha,
    /// More than one picture; the first is used.
    Animated,
    /// Turned by its EXIF orientation.
    Turned,
    /// More than [`OVERSIZED_PIXELS`]; shrinking the file saves time in every epoch.
    Oversized {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The same bytes as another file of the same split and class.
    Duplicate {
        /// The other file.
        of: String,
    },
    /// The same bytes as a file of another class; one of the labels is wrong.
    OtherClass {
        /// The other file.
        of: String,
    },
    /// The same bytes as a file of the other split: the validation would be too good.
    OtherSplit {
        /// The other file.
        of: String,
    },
}

impl Finding {
    /// A name in words, for a table.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Broken { .. } => "broken",
            Self::Empty => "empty",
            Self::WrongName { .. } => "wrongly named",
            Self::Grey => "grayscale",
            Self::Cmyk => "CMYK",
            Self::Deep => "16-bit",
            Self::Alpha => "transparent",
            Self::Animated => "animated",
            Self::Turned => "turned by EXIF",
            Self::Oversized { .. } => "oversized",
            Self::Duplicate { .. } => "duplicates",
            Self::OtherClass { .. } => "duplicates in another class",
            Self::OtherSplit { .. } => "duplicates in another split",
        }
    }

    /// Whether training would stop at this file.
    pub fn breaks_training(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::Empty)
    }

    /// What there is to say beyond the title.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Broken { reason } => Some(reason.clone()),
            Self::WrongName { content } => Some(format!("the content is {content}")),
            Self::Oversized { width, height } => Some(format!("{width}x{height}")),
            Self::Duplicate { of } | Self::OtherClass { of } | Self::OtherSplit { of } => {
                Some(format!("same content as {of}"))
            }
            _ => None,
        }
    }
}

/// What is known of one file.
#[derive(Debug, Default)]
pub(super) struct Inspection {
    pub(super) findings: Vec<Finding>,
    /// Upright width and height, if it decodes.
    pub(super) dimensions: Option<(u32, u32)>,
    pub(super) bytes: u64,
    /// The same for the same content; nothing for what can't be decoded.
    pub(super) content: Option<u64>,
}

impl Inspection {
    /// A file that couldn't even be read.
    pub(super) fn broken(reason: &str) -> Self {
        let reason = reason.to_owned();
        Self {
            findings: vec![Finding::Broken { reason }],
            ..Self::default()
        }
    }

    /// Looks at a file's bytes; `name` only for its extension.
    pub(super) fn of(name: &str, bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self {
                findings: vec![Finding::Empty],
                ..Self::default()
            };
        }
        let dimensions = match decode(bytes) {
            Ok(image) => image.dimensions(),
            Err(error) => return Self::broken(error.message()),
        };
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self {
            findings: oddities(name, bytes, dimensions),
            dimensions: Some(dimensions),
            bytes: bytes.len() as u64,
            content: Some(hasher.finish()),
        }
    }
}

/// What is unusual about a file that decodes.
fn oddities(name: &str, bytes: &[u8], (width, height): (u32, u32)) -> Vec<Finding> {
    let Ok(traits) = traits(bytes) else {
        return Vec::new();
    };
    let extension = name.rsplit('.').next().unwrap_or_default();
    let named_png = extension.eq_ignore_ascii_case("png");
    let other = match traits.format {
        Format::Png if !named_png => Some("PNG"),
        Format::Jpeg if named_png => Some("JPEG"),
        _ => None,
    };
    let is_large = u64::from(width) * u64::from(height) > OVERSIZED_PIXELS;
    let mut findings: Vec<Finding> = (other.into_iter())
        .map(|content| Finding::WrongName { content })
        .collect();
    for (found, finding) in [
        (traits.is_animated, Finding::Animated),
        (traits.is_grey, Finding::Grey),
        (traits.is_ink, Finding::Cmyk),
        (traits.has_alpha, Finding::Alpha),
        (traits.is_deep, Finding::Deep),
        (traits.is_turned, Finding::Turned),
        (is_large, Finding::Oversized { width, height }),
    ] {
        if found {
            findings.push(finding);
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::picture::agreement::fixture;

    #[test]
    fn what_is_unusual_about_a_file_is_found() {
        let wrong = |content| Finding::WrongName { content };
        let cases: [(&str, &str, Vec<Finding>); 11] = [
            ("444.jpg", "a.JPEG", vec![]),
            ("444.jpg", "a.png", vec![wrong("JPEG")]),
            ("palette.png", "a.jpg", vec![wrong("PNG")]),
            ("grey.jpg", "a.jpg", vec![Finding::Grey]),
            ("grey.png", "a.png", vec![Finding::Grey]),
            ("cmyk.jpg", "a.jpg", vec![Finding::Cmyk]),
            ("ycck.jpg", "a.jpg", vec![Finding::Cmyk]),
            ("deep.png", "a.png", vec![Finding::Deep]),
            ("alpha.png", "a.png", vec![Finding::Alpha]),
            ("animated.png", "a.png", vec![Finding::Animated]),
            ("turned-6.jpg", "a.jpg", vec![Finding::Turned]),
        ];
        for (file, name, expected) in cases {
            let inspection = Inspection::of(name, &fixture(file));
            assert_eq!(inspection.findings, expected, "{file} as {name}");
            assert!(inspection.dimensions.is_some() && inspection.content.is_some());
        }
    }

    #[test]
    fn what_would_stop_training_is_told() {
        let whole = fixture("444.jpg");
        let findings = |bytes: &[u8]| Inspection::of("a.jpg", bytes).findings;
        assert_eq!(findings(b""), [Finding::Empty]);
        for bytes in [&whole[..whole.len() / 2], b"GIF89a\x01\0\x01\0", b"text"] {
            let [Finding::Broken { reason }] = &findings(bytes)[..] else {
                panic!("expected a broken file");
            };
            assert!(!reason.is_empty());
        }
    }
}

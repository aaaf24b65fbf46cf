//! The sheet that pictures are drawn on: SVG as text, its colours and its letters.
//!
//! Law: a shape names its colour by a class, never by value. The style sheet of every picture says
//! what the classes look like on light and on dark paper, so that one file is right on both.
//! Letters stay letters, in whatever sans-serif font the viewer has; no font is needed to draw, and
//! [`Style::width`] bounds what a text takes in any usual one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fmt::{self, Write as _};

/// `(x, y)` in pixels from the upper left corner.
pub(super) type Point = (f64, f64);

/// What the viewer's own sans-serif font stands in for.
const FONT: &str = "Helvetica, Arial, 'Liberation Sans', sans-serif";

/// What an arrow ends in.
const TIP: &str = "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
    markerHeight=\"7\" orient=\"auto\"><path class=\"ink\" fill=\"currentColor\" d=\"M0 0L8 4L0 8z\"/>\
    </marker></defs>\n";

/// A colour by its role. Hues are Okabe and Ito's, told apart with any kind of colour blindness;
/// the fills are the same hues, pale on light paper and deep on dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    Ink,
    Faint,
    Grid,
    Paper,
    Blue,
    Vermillion,
    Green,
    /// Fills behind text.
    Stone,
    Sky,
    Amber,
    Mint,
    Rose,
}

impl Color {
    const ALL: [Self; 12] = [
        Self::Ink,
        Self::Faint,
        Self::Grid,
        Self::Paper,
        Self::Blue,
        Self::Vermillion,
        Self::Green,
        Self::Stone,
        Self::Sky,
        Self::Amber,
        Self::Mint,
        Self::Rose,
    ];

    /// Its class, and how it looks on light and on dark paper.
    fn look(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Ink => ("ink", "#1f2933", "#e4e8ee"),
            Self::Faint => ("faint", "#616e7c", "#9aa5b1"),
            Self::Grid => ("grid", "#e4e7eb", "#2e353f"),
            Self::Paper => ("paper", "#ffffff", "#14181d"),
            Self::Blue => ("blue", "#0072b2", "#56b4e9"),
            Self::Vermillion => ("vermillion", "#d55e00", "#f0803c"),
            Self::Green => ("green", "#009e73", "#1cb88c"),
            Self::Stone => ("stone", "#e4e7eb", "#363e49"),
            Self::Sky => ("sky", "#c3e2f6", "#1b4a66"),
            Self::Amber => ("amber", "#fbe0a8", "#5a4310"),
            Self::Mint => ("mint", "#b9e4d3", "#14503d"),
            Self::Rose => ("rose", "#f3d3e4", "#5b3049"),
        }
    }

    fn class(self) -> &'static str {
        self.look().0
    }
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pen {
    pub(super) color: Color,
    pub(super) width: f64,
    pub(super) opacity: f64,
}

/// An opaque pen.
pub(super) const fn pen(color: Color, width: f64) -> Pen {
    Pen {
        color,
        width,
        opacity: 1.0,
    }
}

/// Where text stands relative to its point; across its direction it is always centred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
    /// Read from below to above, ending at the point.
    UpwardsTo,
    /// Read from below to above, centred on the point.
    UpwardsAround,
}

/// How text is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Style {
    size: f64,
    color: Color,
    is_bold: bool,
    align: Align,
}

/// Text of `size` pixels that begins at its point.
pub(super) const fn style(size: f64, color: Color) -> Style {
    Style {
        size,
        color,
        is_bold: false,
        align: Align::Left,
    }
}

impl Style {
    pub(super) const fn bold(self) -> Self {
        Self {
            is_bold: true,
            ..self
        }
    }

    pub(super) const fn align(self, align: Align) -> Self {
        Self { align, ..self }
    }

    /// Pixels that a text takes at most, in Helvetica and its like and in the wider Verdana's.
    pub(super) fn width(self, text: &str) -> f64 {
        let weight = if self.is_bold { 1.1 } else { 1.0 };
        self.size * weight * text.chars().map(em).sum::<f64>()
    }

    /// The text, cut with an ellipsis where it would take more than `width` pixels.
    pub(super) fn fitted(self, text: &str, width: f64) -> String {
        let mut kept = text.to_owned();
        if self.width(&kept) <= width {
            return kept;
        }
        while self.width(&kept) + self.width("…") > width && kept.pop().is_some() {}
        kept.truncate(kept.trim_end().len());
        kept + "…"
    }
}

/// The advance of a character in ems, rounded up.
fn em(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' | '\u{202f}' => 0.36,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '-' | '/' => 0.42,
        'm' | 'M' | 'w' | 'W' | '%' | '@' | '…' | '—' => 1.0,
        '+' | '=' | '<' | '>' | '−' | '×' | '→' | '~' => 0.84,
        'A'..='Z' => 0.76,
        '\u{1100}'.. => 1.0,
        _ => 0.64,
    }
}

/// A length with no more digits than show.
struct Px(f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Adding zero turns −0 into 0.
        write!(f, "{}", (self.0 * 10.0).round() / 10.0 + 0.0)
    }
}

/// A line's way, in the notation of SVG's paths.
#[derive(Debug, Default, Clone)]
pub(super) struct Path(String);

impl Path {
    /// From here on.
    pub(super) fn from((x, y): Point) -> Self {
        Self(format!("M{} {}", Px(x), Px(y)))
    }

    /// Through all of these.
    pub(super) fn through(points: impl IntoIterator<Item = Point>) -> Self {
        let mut points = points.into_iter();
        let first = points.next().map(Self::from).unwrap_or_default();
        points.fold(first, Self::to)
    }

    pub(super) fn to(mut self, (x, y): Point) -> Self {
        // Writing to a string does not fail.
        let _ = write!(self.0, "L{} {}", Px(x), Px(y));
        self
    }

    /// Goes on from another point.
    pub(super) fn move_to(self, point: Point) -> Self {
        Self(self.0 + &Self::from(point).0)
    }

    /// Adds a closed rectangle.
    pub(super) fn rectangle(&mut self, (x, y): Point, (width, height): Point) {
        let (x, y, width, height) = (Px(x), Px(y), Px(width), Px(height));
        let _ = write!(self.0, "M{x} {y}h{width}v{height}h-{width}z");
    }
}

/// SVG elements so far.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    body: String,
}

impl Sheet {
    fn element(&mut self, element: fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{element}");
    }

    pub(super) fn line(&mut self, pen: Pen, path: &Path) {
        self.element(format_args!("<path {pen} d=\"{}\"/>", path.0));
    }

    /// A line that ends in an arrow.
    pub(super) fn arrow(&mut self, pen: Pen, path: &Path) {
        let tip = "marker-end=\"url(#tip)\"";
        self.element(format_args!("<path {pen} {tip} d=\"{}\"/>", path.0));
    }

    /// The inside of a path, as opaque as said.
    pub(super) fn fill(&mut self, color: Color, opacity: f64, path: &Path) {
        let (class, d) = (color.class(), &path.0);
        self.element(format_args!(
            "<path class=\"{class}\" fill=\"currentColor\" fill-opacity=\"{opacity}\" d=\"{d}\"/>"
        ));
    }

    /// A rectangle with rounded corners.
    pub(super) fn rectangle(&mut self, color: Color, (x, y): Point, (width, height): Point) {
        self.element(format_args!(
            "<rect class=\"{}\" fill=\"currentColor\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"5\"/>",
            color.class(), Px(x), Px(y), Px(width), Px(height)
        ));
    }

    pub(super) fn dot(&mut self, color: Color, (x, y): Point, radius: f64) {
        let (class, x, y) = (color.class(), Px(x), Px(y));
        self.element(format_args!(
            "<circle class=\"{class}\" fill=\"currentColor\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"
        ));
    }

    /// A PNG's bytes as a picture of that size; `label` says what it is.
    pub(super) fn picture(
        &mut self,
        png: &[u8],
        (x, y): Point,
        (width, height): Point,
        label: &str,
    ) {
        let (label, png) = (printable(label), BASE64_STANDARD.encode(png));
        self.element(format_args!(
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" aria-label=\"{label}\" \
             href=\"data:image/png;base64,{png}\"/>",
            Px(x),
            Px(y),
            Px(width),
            Px(height)
        ));
    }

    /// A line of text.
    pub(super) fn text(&mut self, (x, y): Point, text: &str, style: Style) {
        // Capitals and digits reach 0.72 ems above the line that they stand on.
        let drop = 0.36 * style.size;
        let ((x, y), turn) = match style.align {
            Align::Left | Align::Centre | Align::Right => ((x, y + drop), String::new()),
            Align::UpwardsTo | Align::UpwardsAround => {
                let at = (x + drop, y);
                let turn = format!(" transform=\"rotate(-90 {} {})\"", Px(at.0), Px(at.1));
                (at, turn)
            }
        };
        let anchor = match style.align {
            Align::Left => "",
            Align::Centre | Align::UpwardsAround => " text-anchor=\"middle\"",
            Align::Right | Align::UpwardsTo => " text-anchor=\"end\"",
        };
        let weight = if style.is_bold {
            " font-weight=\"bold\""
        } else {
            ""
        };
        let (class, size) = (style.color.class(), style.size);
        self.element(format_args!(
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" font-size=\"{size}\"{anchor}{weight}{turn}>{}</text>",
            Px(x), Px(y), printable(text)
        ));
    }

    /// The picture of `width` by `height` pixels; `label` says to those who can't see it what it is.
    pub(super) fn finish(self, label: &str, width: f64, height: f64) -> String {
        let (width, height) = (width.ceil(), height.ceil());
        let mut looks = [String::new(), String::new()];
        for (class, light, dark) in Color::ALL.map(Color::look) {
            for (rules, color) in looks.iter_mut().zip([light, dark]) {
                let _ = write!(rules, ".{class}{{color:{color}}}");
            }
        }
        let [light, dark] = looks;
        let (label, body) = (printable(label), self.body);
        let tip = match body.contains("url(#tip)") {
            true => TIP,
            false => "",
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\" \
             font-family=\"{FONT}\">\n\
             <style>text{{fill:currentColor}}{light}@media (prefers-color-scheme:dark){{{dark}}}</style>\n\
             {tip}\
             <rect class=\"paper\" fill=\"currentColor\" width=\"100%\" height=\"100%\"/>\n\
             {body}</svg>\n"
        )
    }
}

impl fmt::Display for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, width) = (self.color.class(), self.width);
        write!(
            f,
            "class=\"{class}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\""
        )?;
        match self.opacity {
            1.0 => Ok(()),
            opacity => write!(f, " stroke-opacity=\"{opacity}\""),
        }
    }
}

/// Text as XML and HTML may hold it: class names are any text, XML has no control characters.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => printable.push_str("&amp;"),
            '<' => printable.push_str("&lt;"),
            '>' => printable.push_str("&gt;"),
            '"' => printable.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                printable.push('\u{fffd}');
            }
            c => printable.push(c),
        }
    }
    printable
}

#[cfg(test)]
pub(super) mod tests;

//! The sheet that pictures are drawn on, its colours and its text.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Drawing units for each pixel of the picture: the backend rounds to whole units, and at one unit
/// a pixel lines would look like stairs.
pub(super) const SCALE: i32 = 4;

pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const ORANGE: RGBColor = RGBColor(213, 94, 0);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(super) const INK: RGBColor = RGBColor(40, 44, 52);
pub(super) const FAINT: RGBColor = RGBColor(110, 116, 126);
pub(super) const GRID: RGBColor = RGBColor(228, 231, 236);
pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);

/// A picture that can't be drawn.
#[derive(Debug, thiserror::Error)]
#[error("can't draw the picture: {0}")]
pub struct PlotError(DrawingAreaErrorKind<io::Error>);

impl From<DrawingAreaErrorKind<io::Error>> for PlotError {
    fn from(error: DrawingAreaErrorKind<io::Error>) -> Self {
        Self(error)
    }
}

/// A rectangle of the sheet.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A sheet of `width` by `height` pixels with what `draw` puts on it.
pub(super) fn svg(
    width: i32,
    height: i32,
    draw: impl FnOnce(&Area<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut text = String::new();
    let size = (
        (width * SCALE).unsigned_abs(),
        (height * SCALE).unsigned_abs(),
    );
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    area.fill(&PAPER)?;
    draw(&area)?;
    area.present()?;
    drop(area);
    // The view box keeps the drawing's own units.
    let drawn = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    let shown = format!("width=\"{width}\" height=\"{height}\"");
    Ok(text.replacen(&drawn, &shown, 1))
}

/// A length in pixels as drawing units.
pub(super) fn px(pixels: f64) -> i32 {
    (pixels * f64::from(SCALE)).round() as i32
}

/// A font of this size in pixels.
pub(super) fn font(pixels: f64) -> FontDesc<'static> {
    // The backend takes an em for 1/1.24 of a font's size.
    let size = pixels * f64::from(SCALE) * 1.24;
    FontDesc::new(FontFamily::SansSerif, size, FontStyle::Normal)
}

/// Where text stands relative to its point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
    /// Read from below to above, ending at the point.
    UpwardsTo,
    /// Read from below to above, centred on the point.
    UpwardsAround,
}

/// A line of text at `(x, y)` pixels, centred on `y` (or on `x` where it is read upwards).
pub(super) fn write(
    area: &Area<'_>,
    text: &str,
    (x, y): (f64, f64),
    style: (FontDesc<'static>, RGBColor),
    align: Align,
) -> Result<(), PlotError> {
    let (font, color) = style;
    let (h_pos, upwards) = match align {
        Align::Left => (HPos::Left, false),
        Align::Centre => (HPos::Center, false),
        Align::Right => (HPos::Right, false),
        Align::UpwardsTo => (HPos::Right, true),
        Align::UpwardsAround => (HPos::Center, true),
    };
    let transform = if upwards {
        FontTransform::Rotate270
    } else {
        FontTransform::None
    };
    let style = TextStyle::from(font.transform(transform))
        .color(&color)
        .pos(Pos::new(h_pos, VPos::Center));
    let text = printable(text);
    area.draw(&Text::new(text, (px(x), px(y)), style))?;
    Ok(())
}

/// SVG can't hold control characters, and class names are any text.
fn printable(text: &str) -> String {
    let printable = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars()
        .map(|c| if printable(c) { c } else { '\u{fffd}' })
        .collect()
}

/// At most `longest` characters of a name, the last of them an ellipsis where it is cut.
pub(super) fn shortened(name: &str, longest: usize) -> String {
    if name.chars().count() <= longest {
        return name.to_owned();
    }
    let kept: String = name.chars().take(longest.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// `1234567` as `1 234 567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            // A space that does not break and is no wider than it must be.
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups_of_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (1_234_567, "1 234 567"),
        ] {
            assert_eq!(grouped(number).replace('\u{202f}', " "), text);
        }
    }

    #[test]
    fn a_long_name_is_cut_with_an_ellipsis() {
        assert_eq!(shortened("élan", 4), "élan");
        assert_eq!(shortened("golden retriever", 8), "golden…");
        assert_eq!(shortened("abcdef", 4), "abc…");
    }

    #[test]
    fn a_sheet_has_the_asked_size_and_harmless_text() {
        let svg = svg(300, 200, |area| {
            let style = (font(12.0), INK);
            write(area, "<a & \u{1}b>", (10.0, 10.0), style, Align::Left)
        })
        .unwrap();
        assert!(
            svg.starts_with("<svg width=\"300\" height=\"200\" viewBox=\"0 0 1200 800\""),
            "{svg}"
        );
        assert!(svg.contains("&lt;a &amp; \u{fffd}b&gt;"), "{svg}");
    }
}

//! Where the texts of a picture stand, for the tests of every kind of picture; and the sheet's own tests.

use super::*;

/// The boxes that the texts of a picture fill at most: `(text, left, top, right, bottom)`.
fn text_boxes(svg: &str) -> Vec<(String, [f64; 4])> {
    let number = |element: &str, name: &str| -> f64 {
        let (_, rest) = element.split_once(&format!(" {name}=\"")).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let mut boxes = Vec::new();
    for element in svg.split("<text").skip(1) {
        let (attributes, rest) = element.split_once('>').unwrap();
        let text = rest.split("</text>").next().unwrap();
        let text = text
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        let size = number(attributes, "font-size");
        let (x, y) = (number(attributes, "x"), number(attributes, "y"));
        let mut style = style(size, Color::Ink);
        style.is_bold = attributes.contains("bold");
        let width = style.width(&text);
        let before = match () {
            () if attributes.contains("middle") => width / 2.0,
            () if attributes.contains("end") => width,
            () => 0.0,
        };
        let (start, end) = (-before, width - before);
        let (rise, fall) = (0.76 * size, 0.22 * size);
        boxes.push(match attributes.contains("rotate(-90") {
            true => (text, [x - rise, y - end, x + fall, y - start]),
            false => (text, [x + start, y - rise, x + end, y + fall]),
        });
    }
    boxes
}

/// Fails where two texts of a picture lie on each other or one leaves the paper.
pub(in super::super) fn assert_texts_are_apart(svg: &str) {
    let size: Vec<f64> = (svg.split_once("viewBox=\"0 0 ").unwrap().1)
        .split(['"', ' '])
        .take(2)
        .map(|size| size.parse().unwrap())
        .collect();
    let boxes = text_boxes(svg);
    for (index, (text, [left, top, right, bottom])) in boxes.iter().enumerate() {
        let inside = *left >= 0.0 && *top >= 0.0 && *right <= size[0] && *bottom <= size[1];
        assert!(
            inside,
            "{text} leaves the paper of {size:?}: {left} {top} {right} {bottom}"
        );
        for (other, [l, t, r, b]) in &boxes[index + 1..] {
            let apart = right <= l || r <= left || bottom <= t || b <= top;
            assert!(apart, "{text} and {other} lie on each other");
        }
    }
}

#[test]
fn a_long_text_is_cut_with_an_ellipsis() {
    let style = style(10.0, Color::Ink);
    assert_eq!(style.fitted("élan", 40.0), "élan");
    assert_eq!(style.fitted("golden retriever", 50.0), "golden…");
    assert_eq!(style.fitted("golden", 0.0), "…");
}

#[test]
fn a_sheet_has_the_asked_size_and_harmless_text() {
    let mut sheet = Sheet::default();
    sheet.text((10.0, 10.0), "<a & \u{1}b>", style(12.0, Color::Ink));
    let svg = sheet.finish("a \"b\"", 300.0, 200.0);
    for part in [
        "width=\"300\" height=\"200\" viewBox=\"0 0 300 200\"",
        ">&lt;a &amp; \u{fffd}b&gt;</text>",
        "aria-label=\"a &quot;b&quot;\"",
    ] {
        assert!(svg.contains(part), "{part}: {svg}");
    }
}

/// Relative luminance by the rules for accessible web content (WCAG 2).
fn luminance(color: &str) -> f64 {
    let channel = |index: usize| {
        let value = u8::from_str_radix(&color[index..index + 2], 16).unwrap();
        let value = f64::from(value) / 255.0;
        match value <= 0.04045 {
            true => value / 12.92,
            false => ((value + 0.055) / 1.055).powf(2.4),
        }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

#[test]
fn colours_stand_out_from_light_and_from_dark_paper() {
    let contrasts = |color: Color, ground: Color| {
        let ((_, light, dark), (_, light_ground, dark_ground)) = (color.look(), ground.look());
        [(light, light_ground), (dark, dark_ground)].map(|(color, ground)| {
            let (a, b) = (luminance(color) + 0.05, luminance(ground) + 0.05);
            f64::max(a / b, b / a)
        })
    };
    // 4.5 is what the rules ask of text, 3 of lines.
    let mut wanted = vec![
        (Color::Ink, Color::Paper, 4.5),
        (Color::Faint, Color::Paper, 4.5),
    ];
    wanted.extend([Color::Blue, Color::Vermillion, Color::Green].map(|c| (c, Color::Paper, 3.0)));
    let fills = [
        Color::Stone,
        Color::Sky,
        Color::Amber,
        Color::Mint,
        Color::Rose,
    ];
    wanted.extend(fills.map(|fill| (Color::Ink, fill, 4.5)));
    for (color, ground, least) in wanted {
        for contrast in contrasts(color, ground) {
            assert!(contrast >= least, "{color:?} on {ground:?}: {contrast}");
        }
    }
}

//! What a network saw of a picture and what of it spoke for its classes, as a picture.
//!
//! Beside the crop stands the crop again for each class, darkened where nothing speaks for the class.
//! Brightness, not hue, carries it, so it is seen on any paper and with any kind of colour blindness.

use super::canvas::{Color, Sheet, style};
use crate::data::encode_png;
use crate::model::{Explanation, Ranked};
use image::{Rgb, RgbImage};

/// Pixels of a picture's side, and around it.
const SIDE: f64 = 260.0;
const MARGIN: f64 = 24.0;
const HEAD: f64 = 76.0;
/// What is left of the light where nothing speaks for a class.
const DARKEST: f32 = 0.15;

/// Draws an explanation as an SVG, which holds the pictures.
pub fn explanation(explanation: &Explanation, title: &str) -> String {
    let Explanation { seen, classes, .. } = explanation;
    let pictures = 1 + classes.len();
    let width = MARGIN + pictures as f64 * (SIDE + MARGIN);
    let mut sheet = Sheet::default();
    let name = style(20.0, Color::Ink);
    let title = name.fitted(title, width - 2.0 * MARGIN);
    sheet.text((MARGIN, 28.0), &title, name);
    let mut add = |column: usize, picture: &RgbImage, caption: &str, detail: &str| {
        let x = MARGIN + column as f64 * (SIDE + MARGIN);
        let label = style(13.0, Color::Ink).bold();
        sheet.text((x, 54.0), &label.fitted(caption, SIDE), label);
        sheet.picture(&encode_png(picture), (x, HEAD), (SIDE, SIDE), caption);
        sheet.text((x, HEAD + SIDE + 16.0), detail, style(13.0, Color::Faint));
    };
    add(0, seen, "what the network sees", "");
    for (column, (Ranked { class, probability }, map)) in (1..).zip(classes) {
        let lit = lit(seen, explanation.size, map);
        add(
            column,
            &lit,
            class,
            &format!("{:.1} %", 100.0 * probability),
        );
    }
    let said = classes.first().map_or("", |(best, _)| &best.class);
    sheet.finish(&format!("{title}: {said}"), width, HEAD + SIDE + 40.0)
}

/// The picture with the light of a map: all of it at the map's maximum, little where it is not above zero.
fn lit(seen: &RgbImage, size: [usize; 2], map: &[f32]) -> RgbImage {
    let largest = map.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let (width, height) = seen.dimensions();
    let mut lit = seen.clone();
    for (x, y, Rgb(pixel)) in lit.enumerate_pixels_mut() {
        let share = between(
            size,
            map,
            [place(y, height, size[0]), place(x, width, size[1])],
        );
        let light = DARKEST + (1.0 - DARKEST) * (share / largest).clamp(0.0, 1.0);
        *pixel = pixel.map(|value| (f32::from(value) * light).round() as u8);
    }
    lit
}

/// Where the middle of a pixel lies among so many cells, whose middles are whole numbers.
fn place(pixel: u32, pixels: u32, cells: usize) -> f32 {
    let place = (pixel as f32 + 0.5) / pixels as f32 * cells as f32 - 0.5;
    place.clamp(0.0, cells as f32 - 1.0)
}

/// The value of a map between its cells, by the four around it.
fn between([rows, columns]: [usize; 2], map: &[f32], [y, x]: [f32; 2]) -> f32 {
    let (top, left) = (y as usize, x as usize);
    let (bottom, right) = ((top + 1).min(rows - 1), (left + 1).min(columns - 1));
    let (down, across) = (y - top as f32, x - left as f32);
    let row = |row: usize| {
        let value = |column: usize| map[row * columns + column];
        value(left) * (1.0 - across) + value(right) * across
    };
    row(top) * (1.0 - down) + row(bottom) * down
}

#[cfg(test)]
mod tests {
    use super::super::look;
    use super::*;

    #[test]
    fn light_falls_on_what_speaks_for_a_class() {
        let seen = RgbImage::from_pixel(40, 40, Rgb([200, 100, 50]));
        let map = [-3.0, -1.0, 0.0, 4.0];
        let found = lit(&seen, [2, 2], &map);
        assert_eq!(found.get_pixel(0, 0), &Rgb([30, 15, 8]));
        assert_eq!(found.get_pixel(39, 39), seen.get_pixel(39, 39));
        let middle = found.get_pixel(30, 20);
        assert!(middle.0[0] > 30 && middle.0[0] < 200, "{middle:?}");
        let dark = lit(&seen, [2, 2], &[-1.0; 4]);
        assert!(dark.pixels().all(|pixel| pixel == &Rgb([30, 15, 8])));
    }

    #[test]
    fn classes_and_their_pictures_stand_side_by_side() {
        let class = |class: &str, probability| Ranked {
            class: class.to_owned(),
            probability,
        };
        let seen = RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8 * 4, y as u8 * 4, 128]));
        let map = |from: f32| (0..64).map(|cell| cell as f32 - from).collect();
        let found = Explanation {
            seen,
            size: [8, 8],
            classes: vec![
                (class("cat & <dog>", 0.75), map(20.0)),
                (class("bird", 0.2), map(50.0)),
            ],
        };
        let svg = explanation(&found, "photo.jpg");
        look("explanation", &svg);
        assert_eq!(svg.matches("data:image/png;base64,iVBOR").count(), 3);
        assert!(svg.contains("cat &amp; &lt;dog&gt;") && svg.contains("75.0 %"));
    }
}

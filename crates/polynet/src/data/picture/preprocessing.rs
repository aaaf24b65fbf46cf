//! How a picture becomes a network's input: resize, crop, normalise.
//!
//! One [`Preprocessing`] is stored in a model's `config.json` and used wherever the model is: by
//! training's evaluation, `eval` and `predict`. It prints as
//!
//! ```
//! use polynet::data::Preprocessing;
//!
//! let json = serde_json::to_string(&Preprocessing::imagenet(331)).unwrap();
//! assert_eq!(json, concat!(
//!     r#"{"input_size":331,"resize":{"kind":"exact","size":378},"interpolation":"bilinear","#,
//!     r#""crop":"centre","mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}"#
//! ));
//! ```
//!
//! Law: resizing the whole picture and then cropping gives the same pixels as resizing the part
//! that survives the crop. The second is what happens here: it costs less, and a picture of
//! 30000×1 pixels asks for no more memory than any other.

use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use super::resample::{Interpolation, Region, with_resized};
use crate::data::error::DataError;

/// The largest input a network may ask for, in pixels a side.
const MAX_INPUT_SIZE: usize = 4096;

/// How a picture becomes a network's input `[3, input_size, input_size]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Height and width of the network's input, in pixels.
    pub input_size: usize,
    /// The size the picture is brought to before it is cropped.
    pub resize: Resize,
    /// How new pixels are made from old ones.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// Which part of the resized picture is taken.
    #[serde(default)]
    pub crop: Crop,
    /// Subtracted from red, green and blue, which lie in 0…1.
    pub mean: [f32; 3],
    /// What red, green and blue are then divided by.
    pub std: [f32; 3],
}

/// The size a picture is brought to before it is cropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Resize {
    /// Both sides to `size`, whatever the aspect ratio was.
    Exact {
        /// Height and width in pixels.
        size: usize,
    },
    /// The shorter side to `size`, keeping the aspect ratio.
    ShorterSide {
        /// The shorter side in pixels.
        size: usize,
    },
    /// For data sets whose images have the input size already; any other image is resized to it
    /// whatever its aspect ratio was.
    None,
}

/// Which part of the resized picture is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// The middle.
    #[default]
    Centre,
}

impl Preprocessing {
    /// The released model's: resized to 378×378 whatever the aspect ratio was, the centre
    /// 331×331, ImageNet's mean and deviation. Other sizes keep the proportion 378/331.
    pub fn imagenet(input_size: usize) -> Self {
        Self {
            input_size,
            resize: Resize::Exact {
                size: (input_size * 378 + 331 / 2) / 331,
            },
            interpolation: Interpolation::Bilinear,
            crop: Crop::Centre,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// For small images, taken whole; mean and deviation are those of CIFAR-10's training images.
    pub fn small(input_size: usize) -> Self {
        Self {
            input_size,
            resize: Resize::None,
            interpolation: Interpolation::Bilinear,
            crop: Crop::Centre,
            mean: [0.4914, 0.4822, 0.4465],
            std: [0.2470, 0.2435, 0.2616],
        }
    }

    /// Checks that the description makes sense.
    ///
    /// # Errors
    /// Names the key, what it is and what it may be.
    pub fn validate(&self) -> Result<(), DataError> {
        let Self { input_size, .. } = *self;
        if !(1..=MAX_INPUT_SIZE).contains(&input_size) {
            return Err(DataError::configuration(format!(
                "preprocessing: expected input_size between 1 and {MAX_INPUT_SIZE}, got {input_size}"
            )));
        }
        if let Resize::Exact { size } | Resize::ShorterSide { size } = self.resize
            && !(input_size..=4 * MAX_INPUT_SIZE).contains(&size)
        {
            return Err(DataError::configuration(format!(
                "preprocessing: expected a resize size between input_size {input_size} and {}, \
                 got {size}",
                4 * MAX_INPUT_SIZE
            )));
        }
        for (key, values, fits) in [
            ("mean", self.mean, (|v| v.is_finite()) as fn(f32) -> bool),
            ("std", self.std, |v| v.is_finite() && v > 0.0),
        ] {
            if let Some(value) = values.into_iter().find(|value| !fits(*value)) {
                let expected = if key == "std" { "positive" } else { "finite" };
                return Err(DataError::configuration(format!(
                    "preprocessing: expected {expected} numbers in {key}, got {value}"
                )));
            }
        }
        Ok(())
    }

    /// How many numbers one input has: `3 · input_size · input_size`.
    pub fn input_len(&self) -> usize {
        3 * self.input_size * self.input_size
    }

    /// The input made from a picture, `[3, input_size, input_size]`. A picture without pixels
    /// counts as black.
    pub fn apply(&self, image: &RgbImage) -> Vec<f32> {
        let mut out = vec![0.0; self.input_len()];
        self.apply_into(image, &mut out);
        out
    }

    /// [`Self::apply`] into memory of the caller's.
    ///
    /// # Panics
    /// If `out` has not exactly [`Self::input_len`] numbers.
    pub fn apply_into(&self, image: &RgbImage, out: &mut [f32]) {
        let region = self.region(image.width(), image.height());
        let whole: Vec<_> = (0..self.input_size).map(Some).collect();
        self.render(image, region, &whole, &whole, out);
    }

    /// The picture that an input shows: what the network sees.
    ///
    /// # Panics
    /// If `input` has not exactly [`Self::input_len`] numbers.
    pub fn picture(&self, input: &[f32]) -> RgbImage {
        assert_eq!(
            input.len(),
            self.input_len(),
            "one input's worth of numbers"
        );
        let (size, plane) = (self.input_size as u32, input.len() / 3);
        RgbImage::from_fn(size, size, |x, y| {
            let place = (y * size + x) as usize;
            Rgb(std::array::from_fn(|channel| {
                let value = input[channel * plane + place];
                ((value * self.std[channel] + self.mean[channel]) * 255.0).round() as u8
            }))
        })
    }

    /// The part of a `width`×`height` picture that the network sees.
    pub fn region(&self, width: u32, height: u32) -> Region {
        let (resized_width, resized_height) = self.resized(width, height);
        let Crop::Centre = self.crop;
        let (left, width) = centre(self.input_size, resized_width, width);
        let (top, height) = centre(self.input_size, resized_height, height);
        Region {
            left,
            top,
            width,
            height,
        }
    }

    /// Width and height of the whole picture after resizing.
    fn resized(&self, width: u32, height: u32) -> (usize, usize) {
        match self.resize {
            Resize::None => (self.input_size, self.input_size),
            Resize::Exact { size } => (size, size),
            Resize::ShorterSide { size } => {
                let (width, height) = (width.max(1) as usize, height.max(1) as usize);
                let shorter = width.min(height);
                (size * width / shorter, size * height / shorter)
            }
        }
    }

    /// Resizes `region` to the input size and writes it normalised, channel by channel. Row `y`
    /// of the output is row `rows[y]` of the resized region, or the mean colour where there is
    /// none; columns alike.
    pub(crate) fn render(
        &self,
        image: &RgbImage,
        region: Region,
        rows: &[Option<usize>],
        columns: &[Option<usize>],
        out: &mut [f32],
    ) {
        assert_eq!(out.len(), self.input_len(), "one input's worth of numbers");
        let size = self.input_size;
        let order = ColumnOrder::of(columns);
        with_resized(image, region, [size; 2], self.interpolation, |pixels| {
            for (channel, plane) in out.chunks_exact_mut(size * size).enumerate() {
                let table = self.normalised_bytes(channel);
                for (line, row) in plane.chunks_exact_mut(size).zip(rows) {
                    let Some(row) = row else {
                        line.fill(0.0);
                        continue;
                    };
                    let source = &pixels[3 * size * row..][..3 * size];
                    write_row(source, channel, columns, order, &table, line);
                }
            }
        });
    }

    /// What each of the 256 values of a channel becomes.
    fn normalised_bytes(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[channel]) / self.std[channel])
    }
}

/// Which columns of the resized region a row takes.
#[derive(Clone, Copy)]
enum ColumnOrder {
    AsTheyAre,
    Mirrored,
    Other,
}

impl ColumnOrder {
    fn of(columns: &[Option<usize>]) -> Self {
        let forward = columns.iter().copied().eq((0..columns.len()).map(Some));
        let backward = columns
            .iter()
            .copied()
            .eq((0..columns.len()).rev().map(Some));
        match (forward, backward) {
            (true, _) => Self::AsTheyAre,
            (_, true) => Self::Mirrored,
            _ => Self::Other,
        }
    }
}

/// One channel of a row of RGB bytes, normalised by `table`.
fn write_row(
    source: &[u8],
    channel: usize,
    columns: &[Option<usize>],
    order: ColumnOrder,
    table: &[f32; 256],
    line: &mut [f32],
) {
    let values = source.as_chunks::<3>().0.iter();
    match order {
        ColumnOrder::AsTheyAre => {
            for (to, pixel) in line.iter_mut().zip(values) {
                *to = table[usize::from(pixel[channel])];
            }
        }
        ColumnOrder::Mirrored => {
            for (to, pixel) in line.iter_mut().zip(values.rev()) {
                *to = table[usize::from(pixel[channel])];
            }
        }
        ColumnOrder::Other => {
            for (to, column) in line.iter_mut().zip(columns) {
                *to = column.map_or(0.0, |x| table[usize::from(source[3 * x + channel])]);
            }
        }
    }
}

/// Start and length, in source pixels, of the middle `wanted` of `resized` pixels.
fn centre(wanted: usize, resized: usize, source: u32) -> (f64, f64) {
    let offset = centre_offset(wanted, resized);
    let scale = f64::from(source) / resized.max(1) as f64;
    (offset as f64 * scale, wanted.min(resized) as f64 * scale)
}

/// Where the middle `wanted` of `resized` pixels begin: half the rest, and where that is not a
/// whole number the even one beside it, as torchvision does (378 → 331 begins at 24).
pub(crate) fn centre_offset(wanted: usize, resized: usize) -> usize {
    let rest = resized.saturating_sub(wanted);
    let half = rest / 2;
    half + (rest % 2) * (half % 2)
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use proptest::prelude::*;

    use super::*;
    use crate::data::sample_images::{byte_values, gradient, pattern, unnormalised};

    #[test]
    fn an_image_of_the_input_size_is_taken_as_it_is() {
        let image = pattern(8, 8);
        let got =
            byte_values(&unnormalised(8, Resize::None, Interpolation::Bilinear).apply(&image));
        for (channel, plane) in got.chunks_exact(64).enumerate() {
            for (position, value) in plane.iter().enumerate() {
                let pixel = image.get_pixel(position as u32 % 8, position as u32 / 8);
                assert_eq!(
                    *value,
                    i32::from(pixel[channel]),
                    "channels first, then rows"
                );
            }
        }
    }

    #[test]
    fn the_released_preprocessing_scales_with_the_input() {
        for (input_size, size) in [(331, 378), (299, 341), (224, 256)] {
            let preprocessing = Preprocessing::imagenet(input_size);
            assert_eq!(preprocessing.resize, Resize::Exact { size });
            preprocessing.validate().unwrap();
        }
    }

    #[test]
    fn the_centre_of_an_odd_rest_begins_where_torchvision_lets_it_begin() {
        // Python: [round((resized - wanted) / 2) for wanted, resized in ...]
        for (wanted, resized, expected) in [(331, 378, 24), (4, 9, 2), (4, 7, 2), (224, 256, 16)] {
            assert_eq!(centre_offset(wanted, resized), expected);
        }
    }

    #[test]
    fn normalisation_subtracts_the_mean_and_divides_by_the_deviation() {
        let image = RgbImage::from_pixel(4, 4, Rgb([255, 0, 51]));
        let got = Preprocessing::imagenet(4).apply(&image);
        // (1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225
        for (channel, expected) in [2.248_908_3_f32, -2.035_714_3, -0.915_555_6]
            .iter()
            .enumerate()
        {
            assert!((got[channel * 16] - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_key() {
        let good = Preprocessing::imagenet(331);
        type Spoil = fn(&mut Preprocessing);
        let cases: [(&str, Spoil); 6] = [
            ("input_size", |p| p.input_size = 0),
            ("input_size", |p| p.input_size = usize::MAX),
            ("resize size", |p| p.resize = Resize::Exact { size: 330 }),
            ("resize size", |p| {
                p.resize = Resize::ShorterSide { size: usize::MAX }
            }),
            ("mean", |p| p.mean[1] = f32::NAN),
            ("std", |p| p.std[2] = 0.0),
        ];
        for (key, spoil) in cases {
            let mut bad = good.clone();
            spoil(&mut bad);
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn unknown_keys_in_a_config_are_refused() {
        let text =
            r#"{"input_size":8,"resize":{"kind":"none"},"mean":[0,0,0],"std":[1,1,1],"scale":2}"#;
        let error = serde_json::from_str::<Preprocessing>(text).unwrap_err();
        assert!(error.to_string().contains("scale"), "{error}");
    }

    proptest! {
        #[test]
        fn any_picture_gives_a_finite_input(
            width in 1u32..200, height in 1u32..200, input_size in 1usize..40,
            extra in 0usize..20, shorter: bool,
        ) {
            let size = input_size + extra;
            let resize = if shorter { Resize::ShorterSide { size } } else { Resize::Exact { size } };
            let preprocessing = unnormalised(input_size, resize, Interpolation::Bicubic);
            let got = preprocessing.apply(&gradient(width, height));
            prop_assert!(got.iter().all(|v| (0.0..=1.0).contains(v)));
        }

        #[test]
        fn cropping_before_resizing_equals_cropping_after_it(
            width in 2u32..60, height in 2u32..60, input_size in 2usize..20, extra in 0usize..20,
        ) {
            let resize = Resize::ShorterSide { size: input_size + extra };
            let preprocessing = unnormalised(input_size, resize, Interpolation::Bilinear);
            let image = pattern(width, height);
            let (full_width, full_height) = preprocessing.resized(width, height);
            let full_size = [full_width, full_height];
            let whole = Region::whole(width, height);
            let full =
                with_resized(&image, whole, full_size, Interpolation::Bilinear, <[u8]>::to_vec);
            let left = centre_offset(input_size, full_width);
            let top = centre_offset(input_size, full_height);
            let got = byte_values(&preprocessing.apply(&image));
            for y in 0..input_size {
                for x in 0..input_size {
                    let whole = full[3 * ((top + y) * full_width + left + x)];
                    prop_assert_eq!(got[y * input_size + x], i32::from(whole));
                }
            }
        }
    }

    #[test]
    fn a_thin_picture_costs_no_more_than_another() {
        // Resizing all of it would ask for 10 × 300,000 pixels.
        let image = RgbImage::from_pixel(30_000, 1, Rgb([7, 7, 7]));
        let preprocessing =
            unnormalised(8, Resize::ShorterSide { size: 10 }, Interpolation::Bilinear);
        assert!(
            byte_values(&preprocessing.apply(&image))
                .iter()
                .all(|v| *v == 7)
        );
        let region = preprocessing.region(30_000, 1);
        assert!((region.width - 0.8).abs() < 1e-9 && (region.height - 0.8).abs() < 1e-9);
    }
}

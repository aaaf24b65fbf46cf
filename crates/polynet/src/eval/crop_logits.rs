//! The logits of every crop of some images.
//!
//! The crops of many images fill the batches. While the network computes one batch, the next is
//! decoded and resized by the other threads; an image is decoded once. No more is kept than two
//! batches and the images that they come from.

use super::crops::{CropPlan, Flip, resized};
use crate::data::{DataError, Preprocessing, Region, with_resized};
use image::{Rgb, RgbImage, imageops};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Which crops are looked at, and how many at once.
#[derive(Debug, Clone, PartialEq)]
pub struct CropView {
    /// The crops.
    pub plan: CropPlan,
    /// Interpolation and normalisation; its input size is the plan's.
    pub preprocessing: Preprocessing,
    /// Crops in a batch, about: whole squares are taken, and at least one.
    pub batch: usize,
}

/// An image's logits `[crops, classes]`, or why it has none.
pub type ImageLogits = Result<Vec<f32>, DataError>;

/// Some crops on their way to the network.
struct CropBatch {
    /// `[squares · crops, 3, input, input]`.
    inputs: Vec<f32>,
    /// Which image each square is of.
    images: Vec<usize>,
}

impl CropView {
    /// The inputs of all crops of a picture, `[crops, 3, input, input]`, in the order of
    /// [`CropPlan::crops`].
    pub fn inputs(&self, image: &RgbImage) -> Vec<f32> {
        let mut out = vec![0.0; self.plan.crops_per_image() * self.preprocessing.input_len()];
        let squares = out.chunks_exact_mut(self.square_len());
        for (number, out) in squares.enumerate() {
            self.render_square(image, number, out);
        }
        out
    }

    /// A picture of all crops as the network sees them: a row for each square of each scale, a column
    /// for each part of a square, upright and mirrored, in the order of [`CropPlan::crops`].
    pub fn contact_sheet(&self, image: &RgbImage) -> RgbImage {
        const GAP: u32 = 4;
        let size = self.preprocessing.input_size as u32;
        let columns = self.plan.crops_per_square() as u32;
        let rows = self.plan.squares_per_image() as u32;
        let length = |count: u32| GAP + count * (size + GAP);
        let mut sheet = RgbImage::from_pixel(length(columns), length(rows), Rgb([255; 3]));
        let mut inputs = vec![0.0; self.square_len()];
        for row in 0..rows {
            self.render_square(image, row as usize, &mut inputs);
            let crops = inputs.chunks_exact(self.preprocessing.input_len());
            for (column, crop) in (0..).zip(crops) {
                let crop = self.preprocessing.picture(crop);
                let [x, y] = [column, row].map(|number| i64::from(length(number)));
                imageops::replace(&mut sheet, &crop, x, y);
            }
        }
        sheet
    }

    /// The logits of `count` images, which `decode` gives by number. `forward` computes the logits
    /// `[n, classes]` of inputs of shape `[n, 3, input, input]`.
    pub fn logits(
        &self,
        count: usize,
        decode: impl Fn(usize) -> Result<RgbImage, DataError> + Sync,
        mut forward: impl FnMut(Vec<f32>, [usize; 4]) -> Vec<f32>,
    ) -> Vec<ImageLogits> {
        let input = self.preprocessing.input_size;
        let mut results: Vec<ImageLogits> = (0..count).map(|_| Ok(Vec::new())).collect();
        let errors = std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(1);
            let decode = &decode;
            let producer = scope.spawn(move || self.produce(count, decode, &sender));
            for CropBatch { inputs, images } in receiver {
                let crops = images.len() * self.plan.crops_per_square();
                let logits = forward(inputs, [crops, 3, input, input]);
                let per_square = logits.len() / images.len();
                for (image, logits) in images.iter().zip(logits.chunks_exact(per_square)) {
                    if let Ok(all) = &mut results[*image] {
                        all.extend_from_slice(logits);
                    }
                }
            }
            match producer.join() {
                Ok(errors) => errors,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        for (image, error) in errors {
            results[image] = Err(error);
        }
        results
    }

    /// Sends the batches; returns the images that could not be decoded.
    fn produce(
        &self,
        count: usize,
        decode: impl Fn(usize) -> Result<RgbImage, DataError> + Sync,
        batches: &SyncSender<CropBatch>,
    ) -> Vec<(usize, DataError)> {
        let squares = self.plan.squares_per_image();
        let at_once = (self.batch / self.plan.crops_per_square()).max(1);
        let mut images: HashMap<usize, RgbImage> = HashMap::new();
        let mut errors = Vec::new();
        let mut next = 0;
        for start in (0..count * squares).step_by(at_once) {
            let jobs = start..(count * squares).min(start + at_once);
            let (first, end) = (jobs.start / squares, (jobs.end - 1) / squares + 1);
            images.retain(|image, _| *image >= first);
            let new: Vec<_> = (next..end)
                .into_par_iter()
                .map(|image| (image, decode(image)))
                .collect();
            next = next.max(end);
            for (image, result) in new {
                match result {
                    Ok(pixels) => drop(images.insert(image, pixels)),
                    Err(error) => errors.push((image, error)),
                }
            }
            let jobs: Vec<(usize, usize)> = jobs
                .map(|job| (job / squares, job % squares))
                .filter(|(image, _)| images.contains_key(image))
                .collect();
            if jobs.is_empty() {
                continue;
            }
            let mut inputs = vec![0.0; jobs.len() * self.square_len()];
            inputs
                .par_chunks_exact_mut(self.square_len())
                .zip(&jobs)
                .for_each(|(out, (image, number))| {
                    self.render_square(&images[image], *number, out);
                });
            let images = jobs.into_iter().map(|(image, _)| image).collect();
            if batches.send(CropBatch { inputs, images }).is_err() {
                break;
            }
        }
        errors
    }

    /// How many numbers the crops of a square have.
    fn square_len(&self) -> usize {
        self.plan.crops_per_square() * self.preprocessing.input_len()
    }

    /// Resizes a square once and takes its crops from it. Only the square is made, not the whole
    /// resized picture: a thin picture asks for no more memory than another.
    fn render_square(&self, image: &RgbImage, number: usize, out: &mut [f32]) {
        let (width, height) = image.dimensions();
        let (scale, _, left, top) = self.plan.square(number, width, height);
        let (resized_width, resized_height) = resized(scale, width, height);
        let across = f64::from(width) / resized_width as f64;
        let down = f64::from(height) / resized_height as f64;
        let region = Region {
            left: left as f64 * across,
            top: top as f64 * down,
            width: scale as f64 * across,
            height: scale as f64 * down,
        };
        let interpolation = self.preprocessing.interpolation;
        let pixels = with_resized(image, region, [scale; 2], interpolation, <[u8]>::to_vec);
        let side = scale as u32;
        let square = RgbImage::from_raw(side, side, pixels).unwrap_or_default();
        let size = self.preprocessing.input_size;
        let upright: Vec<_> = (0..size).map(Some).collect();
        let mirrored: Vec<_> = (0..size).rev().map(Some).collect();
        let crops = self.plan.crops_of_square(number, width, height);
        for (crop, out) in crops.zip(out.chunks_exact_mut(self.preprocessing.input_len())) {
            let part = Region {
                left: (crop.left - left) as f64,
                top: (crop.top - top) as f64,
                width: crop.side as f64,
                height: crop.side as f64,
            };
            let columns = match crop.flip {
                Flip::Upright => &upright,
                Flip::Mirrored => &mirrored,
            };
            self.preprocessing
                .render(&square, part, &upright, columns, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Resize;
    use crate::eval::crops::Protocol;

    /// The picture that `peers/fixtures_crops.py` draws.
    fn picture(width: i64, height: i64) -> RgbImage {
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let (x, y) = (i64::from(x), i64::from(y));
            Rgb([0, 1, 2]
                .map(|c| (x * (5 + c) + y * (3 - c) + (x * y) / 4 + 40 * c).rem_euclid(256) as u8))
        })
    }

    fn view(protocol: Protocol, input_size: usize, batch: usize) -> CropView {
        CropView {
            plan: CropPlan::new(protocol, input_size, None).unwrap(),
            preprocessing: Preprocessing {
                resize: Resize::None,
                mean: [0.0; 3],
                std: [1.0; 3],
                ..Preprocessing::imagenet(input_size)
            },
            batch,
        }
    }

    #[test]
    fn all_288_crops_are_those_that_pillow_makes_to_the_bit() {
        const INPUT: usize = 14;
        let expected = include_bytes!("fixtures/crops_pil.rgb");
        let pictures = [picture(61, 40), picture(33, 57)];
        let crops = expected.chunks_exact(3 * INPUT * INPUT);
        assert_eq!(crops.len(), 2 * 288);
        let view = view(Protocol::Crops288, INPUT, 32);
        let inputs = pictures.map(|picture| view.inputs(&picture)).concat();
        for (number, (crop, input)) in crops
            .zip(inputs.chunks_exact(3 * INPUT * INPUT))
            .enumerate()
        {
            for (place, &byte) in crop.iter().enumerate() {
                let (pixel, channel) = (place / 3, place % 3);
                let got = (input[channel * INPUT * INPUT + pixel] * 255.0).round();
                assert_eq!(got, f32::from(byte), "crop {number}, byte {place}");
            }
        }
    }

    #[test]
    fn logits_come_in_the_order_of_the_crops_whatever_the_batch() {
        // "Logits" that tell the inputs apart: their first and last numbers.
        let forward = |inputs: Vec<f32>, shape: [usize; 4]| {
            let length = shape[1..].iter().product();
            assert_eq!(inputs.len(), shape[0] * length);
            let ends = |input: &[f32]| [input[0], input[length - 1]];
            inputs
                .chunks_exact(length)
                .flat_map(ends)
                .collect::<Vec<f32>>()
        };
        let pictures = [picture(30, 20), picture(9, 40), picture(16, 16)];
        let decode = |image: usize| Ok(pictures[image].clone());
        let expected: Vec<Vec<f32>> = pictures
            .iter()
            .map(|picture| {
                let inputs = view(Protocol::Crops144, 8, 1).inputs(picture);
                forward(inputs, [144, 3, 8, 8])
            })
            .collect();
        for batch in [1, 13, 50, 1000] {
            let view = view(Protocol::Crops144, 8, batch);
            let mut largest = 0;
            let results = view.logits(3, decode, |inputs, shape| {
                largest = largest.max(shape[0]);
                forward(inputs, shape)
            });
            let results: Vec<Vec<f32>> = results.into_iter().map(Result::unwrap).collect();
            assert_eq!(results, expected, "batch {batch}");
            assert!(largest <= batch.max(12));
        }
    }

    #[test]
    fn the_contact_sheet_shows_the_pixels_of_the_crops() {
        let picture = picture(40, 20);
        let sheet = view(Protocol::Crops288, 8, 1).contact_sheet(&picture);
        assert_eq!(sheet.dimensions(), (4 + 12 * 12, 4 + 24 * 12));
        let normalised = CropView {
            preprocessing: Preprocessing::imagenet(8),
            ..view(Protocol::Crops288, 8, 1)
        };
        assert_eq!(normalised.contact_sheet(&picture), sheet);
        // The mirrored crop beside the first begins with the first one's last pixel.
        assert_eq!(sheet.get_pixel(4 + 7, 4), sheet.get_pixel(4 + 12, 4));
        assert_eq!(sheet.get_pixel(0, 0), &Rgb([255; 3]));
    }

    #[test]
    fn a_broken_image_is_an_error_of_its_own() {
        let good = picture(20, 20);
        let decode = |image: usize| match image {
            1 => Err(DataError::configuration("broken")),
            _ => Ok(good.clone()),
        };
        let results = view(Protocol::Crops12, 8, 30).logits(3, decode, |_, [n, ..]| vec![0.0; n]);
        assert_eq!(results[1].as_ref().unwrap_err().message(), "broken");
        assert!(
            [0, 2]
                .iter()
                .all(|&image| results[image].as_ref().unwrap().len() == 12)
        );
    }
}

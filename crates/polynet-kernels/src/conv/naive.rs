//! The definition of a convolution, to test kernels against.

use crate::window::Window;

/// Convolves `[images, in_channels, height, width]` with `[out_channels, in_channels, kernel_height,
/// kernel_width]` in `f64` and adds the bias `[out_channels]`. All in row-major order; slow.
///
/// # Panics
/// If the lengths do not fit.
pub fn convolve(
    window: Window,
    x: &[f32],
    shape: [usize; 4],
    weights: &[f32],
    bias: &[f32],
) -> Vec<f32> {
    let exact = convolve_exactly(window, x, shape, weights, bias).into_iter();
    exact.map(|value| value as f32).collect()
}

/// [`convolve`] with its results as they are summed.
pub(super) fn convolve_exactly(
    window: Window,
    x: &[f32],
    [images, in_channels, height, width]: [usize; 4],
    weights: &[f32],
    bias: &[f32],
) -> Vec<f64> {
    let [rows, columns] = window.output_size([height, width]);
    let taps = window.taps();
    assert_eq!(x.len(), images * in_channels * height * width);
    assert_eq!(weights.len(), bias.len() * in_channels * taps);
    let at = |image: usize, channel: usize, row: isize, column: isize| {
        let inside = |at: isize, end: usize| (0..end as isize).contains(&at);
        if !inside(row, height) || !inside(column, width) {
            return 0.0;
        }
        let plane = image * in_channels + channel;
        f64::from(x[(plane * height + row as usize) * width + column as usize])
    };
    let mut y = Vec::with_capacity(images * bias.len() * rows * columns);
    for image in 0..images {
        for (output, &bias) in bias.iter().enumerate() {
            for row in 0..rows {
                for column in 0..columns {
                    let mut sum = f64::from(bias);
                    for channel in 0..in_channels {
                        for tap in 0..taps {
                            let down = row * window.stride[0] + tap / window.kernel[1];
                            let right = column * window.stride[1] + tap % window.kernel[1];
                            let row = down as isize - window.padding[0] as isize;
                            let column = right as isize - window.padding[1] as isize;
                            let weight = weights[(output * in_channels + channel) * taps + tap];
                            sum += f64::from(weight) * at(image, channel, row, column);
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

//! From planes to RGB: all components to the size of the largest as libjpeg does it ("fancy
//! upsampling": a triangle filter where the factor is 2), then the conversion of JFIF; ink as Pillow
//! makes it light.

use super::{Fault, Part, Plane, header::Colours, zeros};

/// `part` of the picture that the planes hold, as `[height, width, 3]`.
pub(super) fn to_rgb(planes: &[Plane], colours: Colours, part: Part) -> Result<Vec<u8>, Fault> {
    let mut out = zeros(3 * part.width * part.height, 0)?;
    let mut rows = vec![vec![0; part.width]; planes.len()];
    let mut light = vec![0; 3 * part.width];
    let mut between = Vec::new();
    for (y, line) in (part.top..).zip(out.chunks_exact_mut((3 * part.width).max(1))) {
        for (plane, row) in planes.iter().zip(&mut rows) {
            upsample(plane, part, y, &mut between, row);
        }
        match (colours, rows.as_slice()) {
            (Colours::Grey, [grey]) => {
                for (pixel, &value) in line.chunks_exact_mut(3).zip(grey) {
                    pixel.fill(value);
                }
            }
            (Colours::YCbCr, [luma, blue, red]) => convert(luma, blue, red, line),
            (Colours::Rgb, [red, green, blue]) => interleave([red, green, blue], line),
            (Colours::Cmyk, [cyan, magenta, yellow, black]) => {
                interleave([cyan, magenta, yellow], &mut light);
                inked(&light, black, line);
            }
            (Colours::Ycck, [luma, blue, red, black]) => {
                convert(luma, blue, red, &mut light);
                // libjpeg makes ink of these colours, and Pillow light of that ink.
                light.iter_mut().for_each(|value| *value = 255 - *value);
                inked(&light, black, line);
            }
            _ => return Err(Fault::Damaged("its frame has other colour channels")),
        }
    }
    Ok(out)
}

fn interleave(channels: [&[u8]; 3], out: &mut [u8]) {
    for (x, pixel) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        *pixel = channels.map(|channel| channel[x]);
    }
}

/// What is left of the paper's light: `absent` says how much of each ink is missing, `[width, 3]`,
/// and `light` how much of black is. Pillow's rounding.
fn inked(absent: &[u8], light: &[u8], out: &mut [u8]) {
    let pixels = out.as_chunks_mut::<3>().0.iter_mut();
    for ((pixel, absent), &light) in pixels.zip(absent.as_chunks::<3>().0).zip(light) {
        *pixel = absent.map(|absent| {
            let product = u32::from(255 - absent) * u32::from(light) + 128;
            light - ((product + (product >> 8)) >> 8) as u8
        });
    }
}

/// Row `y` of the picture's plane, from the part's left edge on.
fn upsample(plane: &Plane, part: Part, y: usize, between: &mut Vec<u16>, into: &mut [u8]) {
    let row = plane.row((y / plane.down) as isize);
    let (left, odd) = (part.left, y % 2 == 1);
    // The vertical filter has weights 3 and 1; what it gives is 4 times as large.
    let far = || {
        let y = (y / 2) as isize;
        plane.row(if odd { y + 1 } else { y - 1 })
    };
    let sums = |far| {
        row.iter()
            .zip(far)
            .map(|(&near, &far)| 3 * u16::from(near) + u16::from(far))
    };
    // libjpeg has no filter for components of one or two columns.
    let smooth = plane.width > 2;
    match (plane.across, plane.down) {
        (1, 1) => into.copy_from_slice(&row[left - plane.left..][..part.width]),
        (2, 1) if smooth => {
            between.clear();
            between.extend(row.iter().map(|&sample| u16::from(sample)));
            widen(plane, left, between, [1, 2], 2, into);
        }
        (2, 2) if smooth => {
            between.clear();
            between.extend(sums(far()));
            widen(plane, left, between, [8, 7], 4, into);
        }
        (1, 2) => {
            let round = if odd { 2 } else { 1 };
            let sums = sums(far()).skip(left - plane.left);
            for (to, sum) in into.iter_mut().zip(sums) {
                *to = ((sum + round) >> 2) as u8;
            }
        }
        (across, _) => {
            for (x, to) in (left..).zip(into) {
                *to = row[x / across - plane.left];
            }
        }
    }
}

/// Twice as many samples a row, by weights 3 and 1. `round` for even and odd columns.
fn widen(plane: &Plane, left: usize, row: &[u16], round: [u16; 2], shift: u32, into: &mut [u8]) {
    let last = (plane.width - 1 - plane.left).min(row.len() - 1);
    let one = |near: usize, far: usize, round: u16| {
        ((3 * row[near.min(last)] + row[far.min(last)] + round) >> shift) as u8
    };
    let first = left - 2 * plane.left;
    let sample = |x: usize| match x % 2 {
        0 => one(x / 2, (x / 2).saturating_sub(1), round[0]),
        _ => one(x / 2, x / 2 + 1, round[1]),
    };
    // The pairs whose neighbours are all there; the others one by one.
    let begin = (first.max(2)).next_multiple_of(2).min(first + into.len());
    let end = (2 * last).min(first + into.len()).max(begin);
    let pairs = (end - begin) / 2;
    for x in (first..begin).chain(begin + 2 * pairs..first + into.len()) {
        into[x - first] = sample(x);
    }
    if pairs == 0 {
        return;
    }
    let nears = &row[begin / 2..][..pairs];
    let (before, after) = (
        &row[begin / 2 - 1..][..pairs],
        &row[begin / 2 + 1..][..pairs],
    );
    let pairs_out = into[begin - first..][..2 * pairs].chunks_exact_mut(2);
    for (((to, near), before), after) in pairs_out.zip(nears).zip(before).zip(after) {
        to[0] = ((3 * near + before + round[0]) >> shift) as u8;
        to[1] = ((3 * near + after + round[1]) >> shift) as u8;
    }
}

/// Pixels that are converted together.
const TOGETHER: usize = 16;

fn convert(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
    let whole = luma.len() / TOGETHER * TOGETHER;
    let chunks = out.chunks_exact_mut(3 * TOGETHER);
    let samples = luma
        .as_chunks::<TOGETHER>()
        .0
        .iter()
        .zip(blue.as_chunks::<TOGETHER>().0)
        .zip(red.as_chunks::<TOGETHER>().0);
    for (out, ((luma, blue), red)) in chunks.zip(samples) {
        convert_some(luma, blue, red, out);
    }
    // The last ones, filled up.
    let rest = luma.len() - whole;
    if rest > 0 {
        let mut last = [[0; TOGETHER]; 3];
        for (last, row) in last.iter_mut().zip([luma, blue, red]) {
            last[..rest].copy_from_slice(&row[whole..]);
        }
        let mut pixels = [0; 3 * TOGETHER];
        convert_some(&last[0], &last[1], &last[2], &mut pixels);
        out[3 * whole..].copy_from_slice(&pixels[..3 * rest]);
    }
}

/// `R = Y + 1.402 Cr`, `G = Y − 0.34414 Cb − 0.71414 Cr`, `B = Y + 1.772 Cb`, rounded as libjpeg does
/// it, with factors that fit into 16 bits.
#[inline(always)]
fn convert_some(
    luma: &[u8; TOGETHER],
    blue: &[u8; TOGETHER],
    red: &[u8; TOGETHER],
    out: &mut [u8],
) {
    /// A factor with 16 bits behind the point.
    const fn fixed(factor: f64) -> i16 {
        (factor * 65_536.0 + 0.5) as i16
    }
    const R_CR: i16 = fixed(0.402);
    const G_CB: i16 = fixed(0.344_14);
    const G_CR: i16 = fixed(0.285_86);
    const B_CB: i16 = fixed(0.228);
    /// The product, rounded.
    #[inline(always)]
    fn times(sample: i16, factor: i16) -> i16 {
        let twice = (i32::from(2 * sample) * i32::from(factor)) >> 16;
        (twice as i16 + 1) >> 1
    }
    let mut rgb = [[0u8; TOGETHER]; 3];
    for i in 0..TOGETHER {
        let y = i16::from(luma[i]);
        let (cb, cr) = (i16::from(blue[i]) - 128, i16::from(red[i]) - 128);
        let r = y + times(cr, R_CR) + cr;
        let b = y + times(cb, -B_CB) + 2 * cb;
        let sum = i32::from(cb) * i32::from(-G_CB) + i32::from(cr) * i32::from(G_CR);
        let g = y + ((sum + (1 << 15)) >> 16) as i16 - cr;
        rgb[0][i] = r.clamp(0, 255) as u8;
        rgb[1][i] = g.clamp(0, 255) as u8;
        rgb[2][i] = b.clamp(0, 255) as u8;
    }
    for (i, pixel) in out.chunks_exact_mut(3).enumerate() {
        pixel[0] = rgb[0][i];
        pixel[1] = rgb[1][i];
        pixel[2] = rgb[2][i];
    }
}

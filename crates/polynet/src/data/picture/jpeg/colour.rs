//! From planes to RGB: chroma to luma's size as libjpeg does it ("fancy upsampling": a triangle
//! filter), then the conversion of JFIF.

use super::{Part, Plane};

/// `part` of the picture that the planes hold (one, or three), as `[height, width, 3]`.
pub(super) fn to_rgb(planes: &[Plane], part: Part) -> Vec<u8> {
    let mut out = vec![0; 3 * part.width * part.height];
    let mut rows = [vec![0; part.width], vec![0; part.width]];
    let mut between = Vec::new();
    for (y, line) in (part.top..).zip(out.chunks_exact_mut((3 * part.width).max(1))) {
        let luma = &planes[0].row(y as isize)[part.left - planes[0].left..][..part.width];
        let [_, blue, red] = planes else {
            for (pixel, &value) in line.chunks_exact_mut(3).zip(luma) {
                pixel.fill(value);
            }
            continue;
        };
        let [blues, reds] = &mut rows;
        for (plane, into) in [(blue, &mut *blues), (red, &mut *reds)] {
            upsample(plane, &planes[0], part, y, &mut between, into);
        }
        convert(luma, blues, reds, line);
    }
    out
}

/// Row `y` of `plane` at the size of `luma`, from the part's left edge on.
fn upsample(
    plane: &Plane,
    luma: &Plane,
    part: Part,
    y: usize,
    between: &mut Vec<u16>,
    into: &mut [u8],
) {
    let wider = plane.width < luma.width;
    let higher = plane.height < luma.height;
    if !wider {
        into.copy_from_slice(&plane.row(y as isize)[part.left - plane.left..][..part.width]);
        return;
    }
    // The vertical filter has weights 3 and 1; what it gives is 4 times as large.
    let y = y as isize;
    between.clear();
    if higher {
        let (near, odd) = (plane.row(y / 2), y % 2 == 1);
        let far = plane.row(if odd { y / 2 + 1 } else { y / 2 - 1 });
        let sums = near.iter().zip(far);
        between.extend(sums.map(|(&near, &far)| 3 * u16::from(near) + u16::from(far)));
        widen(plane, part.left, between, [8, 7], 4, into);
    } else {
        between.extend(plane.row(y).iter().map(|&sample| u16::from(sample)));
        widen(plane, part.left, between, [1, 2], 2, into);
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

/// `R = Y + 1.402 Cr`, `G = Y − 0.344 Cb − 0.714 Cr`, `B = Y + 1.772 Cb`, rounded, in 16 bits.
#[inline(always)]
fn convert_some(
    luma: &[u8; TOGETHER],
    blue: &[u8; TOGETHER],
    red: &[u8; TOGETHER],
    out: &mut [u8],
) {
    /// Twice the product of a centred sample and a coefficient.
    #[inline(always)]
    fn twice(sample: u8, coefficient: f32) -> i16 {
        let centred = (i16::from(sample) - 128) << 7;
        let coefficient = (coefficient * 1024.0 + 0.5) as i16;
        ((i32::from(centred) * i32::from(coefficient)) >> 16) as i16
    }
    let mut rgb = [[0u8; TOGETHER]; 3];
    for i in 0..TOGETHER {
        let y = i16::from(luma[i]);
        let r = y + ((twice(red[i], 1.402) + 1) >> 1);
        let b = y + ((twice(blue[i], 1.772) + 1) >> 1);
        let g = y - ((twice(blue[i], 0.344_136) + twice(red[i], 0.714_136) + 1) >> 1);
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

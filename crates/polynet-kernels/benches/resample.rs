//! Parts of photographs resampled to 331×331, as training takes them; bilinear, and with the taps of a filter that
//! reaches three times as far.
//!
//! ```sh
//! cargo bench --package polynet-kernels --bench resample
//! ```

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use polynet_kernels::Isa;
use polynet_kernels::resample::{Resampler, Taps, WEIGHT_BITS};

const SIZE: usize = 331;

/// `SIZE` triangles over `length` samples, each `reach` times as wide as the bilinear filter's.
fn taps(length: usize, reach: f64) -> Taps {
    let scale = length as f64 / SIZE as f64;
    let support = reach * scale.max(1.0);
    let mut taps = Taps::default();
    for index in 0..SIZE {
        let centre = (index as f64 + 0.5) * scale;
        let first = (centre - support + 0.5) as usize;
        let end = ((centre + support + 0.5) as usize).min(length);
        let weight = |sample: usize| (support - (sample as f64 - centre + 0.5).abs()).max(0.0);
        let total: f64 = (first..end).map(weight).sum();
        let units = f64::from(1 << WEIGHT_BITS) / total;
        taps.push(
            first,
            (first..end).map(|sample| (weight(sample) * units) as i32),
        );
    }
    taps
}

fn resample(criterion: &mut Criterion) {
    for isa in Isa::available().filter(|isa| !isa.multiplies_bf16()) {
        let mut group = criterion.benchmark_group(format!("resample {isa}"));
        group.throughput(Throughput::Bytes((3 * SIZE * SIZE) as u64));
        for (width, height) in [(180, 200), (360, 270), (500, 375), (1500, 1100)] {
            let picture: Vec<u8> = (0..3 * width * height)
                .map(|i| ((i * i) >> 5) as u8)
                .collect();
            for reach in [1, 3] {
                let (across, down) = (taps(width, reach.into()), taps(height, reach.into()));
                let mut resampler = Resampler::default();
                let mut to = vec![0; 3 * SIZE * SIZE];
                let name = BenchmarkId::new(format!("reach {reach}"), format!("{width}x{height}"));
                group.bench_function(name, |bencher| {
                    let picture = (picture.as_slice(), width);
                    bencher.iter(|| resampler.run(isa, picture, [&across, &down], &mut to));
                });
            }
        }
    }
}

criterion_group!(benches, resample);
criterion_main!(benches);

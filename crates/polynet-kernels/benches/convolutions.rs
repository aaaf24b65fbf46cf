//! The convolutions of Very Deep PolyNet at 331×331, one image, as a share of what a core can do.
//!
//! ```sh
//! cargo bench --package polynet-kernels                    # everything, on one thread
//! cargo bench --package polynet-kernels -- bf16            # names that contain a text
//! ```
//!
//! A share counts the products of the convolution's definition, so transforms can exceed 100 %.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput};
use polynet_kernels::conv::{
    AmxConv, Conv, GradientMemory, InputGradient, QuantizedAmxConv, QuantizedConv, QuantizedStores,
    QuantizedValue, QuantizedWeights, Rounded, Value, Window, Winograd, weight_gradient,
};
use polynet_kernels::layout::{Arena, Pixel, View};
use polynet_kernels::{Element, Isa, bf16, peak};
use std::time::{Duration, Instant};

/// Wall time; throughputs are shares of a peak.
struct ShareOfPeak {
    time: WallTime,
    formatter: Formatter,
}

struct Formatter {
    /// Floating-point operations a second.
    peak: f64,
}

impl ValueFormatter for Formatter {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(
        &self,
        _: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let Throughput::Elements(operations) = *throughput else {
            return "";
        };
        for nanoseconds in values {
            let rate = operations as f64 / (*nanoseconds * 1e-9);
            *nanoseconds = 100.0 * rate / self.peak;
        }
        "% of peak"
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "ns"
    }
}

impl Measurement for ShareOfPeak {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        self.time.start()
    }

    fn end(&self, start: Instant) -> Duration {
        self.time.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        self.time.add(a, b)
    }

    fn zero(&self) -> Duration {
        self.time.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        self.time.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &self.formatter
    }
}

/// The best of some runs, in operations a second.
fn best_of(operations: impl Fn() -> u64) -> f64 {
    let run = || {
        let start = Instant::now();
        operations() as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| run()).fold(0.0, f64::max)
}

fn peak_of<E: Element>(isa: Isa) -> f64 {
    best_of(|| peak::multiply_add::<E>(isa, 4_000_000))
}

/// A convolution: channels in and out, kernel, stride, padding, rows and columns.
struct Layer {
    inputs: usize,
    outputs: usize,
    window: Window,
    size: usize,
}

fn layers() -> Vec<Layer> {
    let layer = |inputs, outputs, kernel: [usize; 2], stride, padding, size| Layer {
        inputs,
        outputs,
        window: Window {
            kernel,
            stride: [stride; 2],
            padding,
        },
        size,
    };
    vec![
        layer(384, 1152, [1, 1], 1, [0, 0], 19),
        layer(1152, 320, [1, 1], 1, [0, 0], 19),
        layer(160, 192, [7, 1], 1, [3, 0], 19),
        layer(128, 160, [1, 7], 1, [0, 3], 19),
        layer(448, 2048, [1, 1], 1, [0, 0], 9),
        layer(2048, 384, [1, 1], 1, [0, 0], 9),
        layer(128, 384, [1, 1], 1, [0, 0], 39),
        layer(384, 96, [1, 1], 1, [0, 0], 39),
        layer(256, 256, [3, 3], 1, [1, 1], 39),
        layer(48, 64, [3, 3], 1, [1, 1], 39),
        layer(192, 192, [3, 3], 2, [0, 0], 39),
        layer(224, 256, [3, 1], 1, [1, 0], 9),
        layer(32, 64, [3, 3], 1, [1, 1], 163),
    ]
}

impl Layer {
    fn name(&self) -> String {
        let Window { kernel, stride, .. } = self.window;
        let (inputs, outputs, size) = (self.inputs, self.outputs, self.size);
        let stride = match stride {
            [1, 1] => String::new(),
            [rows, _] => format!(" stride {rows}"),
        };
        format!(
            "{inputs}-{outputs} {}x{}{stride} on {size}x{size}",
            kernel[0], kernel[1]
        )
    }

    fn operations(&self) -> u64 {
        let [rows, columns] = self.window.output_size([self.size; 2]);
        (2 * self.inputs * self.outputs * self.window.taps() * rows * columns) as u64
    }

    /// Memory with the map that is read and the one that is written.
    fn maps<E: Element>(&self) -> (Arena<E>, View, View) {
        let halo = InputGradient::halo(self.window);
        let from = View::new(0, 1, self.inputs, [self.size; 2], halo);
        let size = self.window.output_size([self.size; 2]);
        let to = View::new(from.end(), 1, self.outputs, size, halo);
        let mut arena = Arena::new(to.end());
        for (index, value) in arena.as_mut_slice().iter_mut().enumerate() {
            *value = E::from_f32((index % 13) as f32 / 13.0 - 0.4);
        }
        (arena, from, to)
    }

    fn weights(&self) -> Vec<f32> {
        let count = self.inputs * self.outputs * self.window.taps();
        (0..count)
            .map(|index| (index % 17) as f32 / 400.0 - 0.02)
            .collect()
    }
}

fn forward<E: Element>(criterion: &mut Criterion<ShareOfPeak>, isa: Isa, kind: &str) {
    let mut group = criterion.benchmark_group(format!("forward {kind} {isa}"));
    for layer in layers() {
        group.throughput(Throughput::Elements(layer.operations()));
        let (mut arena, from, to) = layer.maps::<E>();
        let segments = [&[layer.inputs][..], &[layer.outputs][..]];
        let (weights, bias) = (layer.weights(), vec![0.1; layer.outputs]);
        let conv = Conv::<E>::pack(isa, layer.window, segments, &weights, &bias);
        let value = Value {
            to: &[to],
            relu: true,
        };
        let stores = value.into();
        group.bench_function(BenchmarkId::new("direct", layer.name()), |bencher| {
            bencher.iter(|| conv.run(&mut arena, &[from], stores));
        });
        if Winograd::has(layer.window) {
            let conv = Winograd::pack(
                isa,
                (layer.window, to.size().iter().product()),
                segments,
                &weights,
                &bias,
            );
            group.bench_function(BenchmarkId::new("transformed", layer.name()), |bencher| {
                bencher.iter(|| conv.run(&mut arena, &[from], value.into()));
            });
        }
    }
}

/// By tiles, from and to maps whose pixels have two blocks.
fn tiles(criterion: &mut Criterion<ShareOfPeak>, isa: Isa) {
    let mut group = criterion.benchmark_group(format!("forward bf16 {isa}"));
    for layer in layers() {
        group.throughput(Throughput::Elements(layer.operations()));
        let Layer {
            inputs,
            outputs,
            window,
            size,
        } = layer;
        let pixel = Pixel::TwoBlocks;
        let from = View::of(pixel, 0, 1, inputs, [size; 2], window.padding[1]);
        let out_size = window.output_size([size; 2]);
        let to = View::of(pixel, from.end(), 1, outputs, out_size, 0);
        let mut arena = Arena::<bf16>::new(to.end());
        let image: Vec<f32> = (0..inputs * size * size)
            .map(|index| (index % 13) as f32 / 13.0 - 0.4)
            .collect();
        from.write_nchw(&mut arena, &image);
        let (weights, bias) = (layer.weights(), vec![0.1; outputs]);
        let segments = [&[inputs][..], &[outputs][..]];
        let conv = AmxConv::<bf16>::pack(isa, window, segments, &weights, &bias);
        let value = Value {
            to: &[to],
            relu: true,
        };
        group.bench_function(BenchmarkId::new("tiles", layer.name()), |bencher| {
            bencher.iter(|| conv.run_ahead(&mut arena, &[from], value.into(), None));
        });
    }
}

/// By tiles where they are multiplied, from and to maps whose pixels have four blocks then.
fn quantized(criterion: &mut Criterion<ShareOfPeak>, isa: Isa) {
    let pixel = match isa.multiplies_tiles() {
        true => Pixel::FourBlocks,
        false => Pixel::Block,
    };
    let mut group = criterion.benchmark_group(format!("forward u8 {isa}"));
    for layer in layers() {
        group.throughput(Throughput::Elements(layer.operations()));
        let (in_size, halo) = ([layer.size; 2], layer.window.padding[1]);
        let from = View::of(pixel, 0, 1, layer.inputs, in_size, halo);
        let size = layer.window.output_size(in_size);
        let to = View::of(pixel, from.end(), 1, layer.outputs, size, 0);
        let (mut bytes, mut floats) = (Arena::<u8>::new(to.end()), Arena::<f32>::new(0));
        for (index, value) in bytes.as_mut_slice().iter_mut().enumerate() {
            *value = (index % 251) as u8;
        }
        let count = layer.inputs * layer.outputs * layer.window.taps();
        let values: Vec<i8> = (0..count).map(|index| (index % 17) as i8 - 8).collect();
        let per_output = vec![0.1; layer.outputs];
        let weights = QuantizedWeights {
            values: &values,
            scales: &per_output,
            bias: &per_output,
        };
        let segments = [&[layer.inputs][..], &[layer.outputs][..]];
        let rounded = Rounded {
            to: &[to],
            steps: &[10.0],
        };
        let value = QuantizedValue {
            floats: None,
            bytes: Some(rounded),
            relu: true,
        };
        let stores = QuantizedStores {
            value: Some(value),
            sum: None,
        };
        if isa.multiplies_tiles() {
            let conv = QuantizedAmxConv::pack(isa, layer.window, segments, weights);
            group.bench_function(BenchmarkId::new("tiles", layer.name()), |bencher| {
                bencher.iter(|| conv.run_ahead((&mut bytes, &mut floats), &[from], stores, None));
            });
            continue;
        }
        let conv = QuantizedConv::pack(isa, layer.window, segments, weights);
        group.bench_function(BenchmarkId::new("direct", layer.name()), |bencher| {
            bencher.iter(|| conv.run_ahead((&mut bytes, &mut floats), &[from], stores, None));
        });
    }
}

fn backward<E: Element>(criterion: &mut Criterion<ShareOfPeak>, isa: Isa, kind: &str) {
    let mut group = criterion.benchmark_group(format!("backward {kind} {isa}"));
    for layer in layers() {
        group.throughput(Throughput::Elements(layer.operations()));
        let (mut arena, x, dy) = layer.maps::<E>();
        group.bench_function(
            BenchmarkId::new("to the weights", layer.name()),
            |bencher| {
                bencher.iter(|| weight_gradient(isa, layer.window, &arena, &[x], &[dy]));
            },
        );
        let segments = [&[layer.inputs][..], &[layer.outputs][..]];
        let gradient = InputGradient::<E>::pack(isa, layer.window, segments, &layer.weights());
        group.bench_function(BenchmarkId::new("to the input", layer.name()), |bencher| {
            bencher.iter(|| gradient.run(&mut arena, &[dy], &[x], false));
        });
        if !Winograd::has(layer.window) {
            continue;
        }
        let id = BenchmarkId::new("to the weights, transformed", layer.name());
        group.bench_function(id, |bencher| {
            bencher.iter(|| Winograd::weight_gradient(isa, layer.window, &arena, &[x], &[dy]));
        });
        let place = (layer.window, x.size().iter().product());
        let weights = layer.weights();
        let gradient = InputGradient::<E>::transformed_in(
            GradientMemory::default(),
            isa,
            place,
            segments,
            &weights,
        );
        group.bench_function(
            BenchmarkId::new("to the input, transformed", layer.name()),
            |bencher| bencher.iter(|| gradient.run(&mut arena, &[dy], &[x], false)),
        );
        let mut memory = gradient.into_memory();
        group.bench_function(
            BenchmarkId::new("packing, transformed", layer.name()),
            |bencher| {
                bencher.iter(|| {
                    let memory_before = std::mem::take(&mut memory);
                    let gradient = InputGradient::transformed_in(
                        memory_before,
                        isa,
                        place,
                        segments,
                        &weights,
                    );
                    memory = gradient.into_memory();
                });
            },
        );
    }
}

fn criterion(peak: f64) -> Criterion<ShareOfPeak> {
    let measurement = ShareOfPeak {
        time: WallTime,
        formatter: Formatter { peak },
    };
    Criterion::default()
        .with_measurement(measurement)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .configure_from_args()
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global();
    pool.expect("nothing has used the pool");
    // Inside the pool, so that no kernel has to wake its thread first.
    rayon::scope(|_| measure());
}

fn measure() {
    for isa in Isa::available() {
        if isa.multiplies_tiles() {
            let peak = peak_of::<bf16>(isa);
            println!("{isa}: peak {:.0} GFLOP/s in bf16", peak / 1e9);
            let mut criterion = criterion(peak);
            tiles(&mut criterion, isa);
            criterion.final_summary();
            measure_bytes(isa);
            // All else is that of the next set.
            continue;
        }
        let (single, half) = (peak_of::<f32>(isa), peak_of::<bf16>(isa));
        println!(
            "{isa}: peak {:.0} GFLOP/s in f32, {:.0} in bf16",
            single / 1e9,
            half / 1e9
        );
        if !isa.multiplies_bf16() {
            let mut criterion = criterion(single);
            forward::<f32>(&mut criterion, isa, "f32");
            backward::<f32>(&mut criterion, isa, "f32");
            criterion.final_summary();
        }
        let mut criterion = self::criterion(half);
        forward::<bf16>(&mut criterion, isa, "bf16");
        backward::<bf16>(&mut criterion, isa, "bf16");
        criterion.final_summary();
        measure_bytes(isa);
    }
}

fn measure_bytes(isa: Isa) {
    let peak = best_of(|| peak::multiply_add_bytes(isa, 4_000_000));
    println!("{isa}: peak {:.0} GOP/s of bytes", peak / 1e9);
    let mut criterion = criterion(peak);
    quantized(&mut criterion, isa);
    criterion.final_summary();
}

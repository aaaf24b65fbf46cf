//! Prediction in bf16 by tiles, which are emulated where the processor has none.

use polynet::{CompileOptions, Device, Isa, Precision, Predictor};
use polynet_kernels::emulator;
use polynet_oracle::agreement::Case;

/// The logits of some images by an instruction set on some threads.
fn logits(case: &Case, isa: Isa, (threads, images): (usize, &[f32])) -> Vec<f32> {
    let options = CompileOptions::new(Some(isa), Precision::Bf16);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(|| {
        let predictor = Predictor::new(&case.graph, &case.params, Device::Cpu, options);
        predictor.unwrap().logits(images)
    })
}

/// The bits of a batch of five are those on any number of threads, and of its first and last image alone.
fn check(spec: &str) {
    let Some(isa) = emulator::tiles() else { return };
    let count = 5;
    let case = Case::new(spec, count, 1);
    let expected = logits(&case, isa, (1, &case.images));
    for threads in [2, 3] {
        let found = logits(&case, isa, (threads, &case.images));
        assert_eq!(found, expected, "{spec}, {threads} threads");
    }
    let (image, classes) = (case.images.len() / count, expected.len() / count);
    let images = case.images.chunks_exact(image).enumerate();
    for (index, image) in images.step_by(count - 1) {
        let alone = logits(&case, isa, (2, image));
        assert_eq!(
            alone,
            expected[index * classes..][..classes],
            "{spec}, image {index}"
        );
    }
}

#[test]
fn threads_and_batches_change_no_bit_of_polynet() {
    check("small-polynet; width = 0.25");
}

#[test]
fn threads_and_batches_change_no_bit_of_resnet() {
    check("resnet-152; width = 0.125; input = 64");
}

#[test]
fn threads_and_batches_change_no_bit_of_inception_resnet() {
    check("ir-5-10-5; width = 0.125; input = 107");
}

#[test]
fn the_fastest_precision_is_bf16_where_tiles_are_multiplied() {
    use polynet::{Numbers, PrecisionChoice};
    let Some(isa) = emulator::tiles() else { return };
    assert_eq!(PrecisionChoice::Auto.of(isa, false), Numbers::Bf16);
    assert!(PrecisionChoice::Auto.reason(isa, false).contains("tiles"));
    assert_eq!(PrecisionChoice::Own.of(isa, false), Numbers::F32);
}

/// The networks at their own width and size; emulated it takes minutes.
#[test]
#[ignore = "minutes where tiles are emulated"]
fn whole_networks_are_predicted_by_tiles_as_by_vectors() {
    let Some(isa) = emulator::tiles() else { return };
    let vectors: Isa = "avx512bf16".parse().unwrap();
    for spec in ["resnet-50", "ir-5-10-5"] {
        let case = Case::new(spec, 1, 1);
        let [found, expected] = [isa, vectors].map(|isa| logits(&case, isa, (2, &case.images)));
        let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let errors = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let error = errors.fold(0.0, f32::max) / largest;
        println!("{spec}: tiles and vectors differ by {error:.1e}");
        assert!(error <= 0.05, "{spec}: {error}");
    }
}

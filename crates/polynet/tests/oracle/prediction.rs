//! Prediction on the processor against the oracle, on every instruction set and in both precisions.

use polynet::{CompileOptions, Device, Isa, Precision, Predictor};
use polynet_kernels::emulator;
use polynet_oracle::agreement::Case;
use polynet_oracle::formula::largest;
use polynet_oracle::predict;

/// Largest deviation of a logit, relative to the largest. Transforms of convolutions round more than
/// direct sums; bf16 has 8 bits, and errors of many layers add up.
const ALLOWED: [(Precision, f64); 2] = [(Precision::F32, 1e-5), (Precision::Bf16, 0.05)];

/// Those of the processor, and one with tiles even where these are emulated.
fn instruction_sets() -> Vec<Isa> {
    let with_tiles = emulator::tiles().into_iter();
    let others = Isa::available().filter(|isa| !isa.multiplies_tiles());
    others.chain(with_tiles).collect()
}

fn check(spec: &str) {
    let count = 2;
    let case = Case::new(spec, count, 1);
    let exact: Vec<f64> = case.images.iter().copied().map(f64::from).collect();
    let expected = predict(&case.graph, &case.tensors, &exact);
    for (precision, allowed) in ALLOWED {
        let mut errors_of_bf16 = Vec::new();
        for isa in instruction_sets() {
            let name = format!("{spec}, {isa}, {precision}");
            let options = CompileOptions::new(Some(isa), precision);
            let mut predictor =
                Predictor::new(&case.graph, &case.params, Device::Cpu, options).unwrap();
            let found = predictor.logits(&case.images);
            assert_eq!(found.len(), expected.len(), "{name}");
            let errors = found
                .iter()
                .zip(&expected)
                .map(|(a, b)| (f64::from(*a) - b).abs());
            let error = errors.fold(0.0, f64::max) / largest(&expected);
            println!("{name}: logits within {error:.1e}");
            assert!(error <= allowed, "{name}: {error:e}");
            if precision == Precision::Bf16 && isa.multiplies_bf16() {
                errors_of_bf16.push(error);
            }
            let one = &case.images[..case.images.len() / count];
            let alone = predictor.logits(one);
            assert_eq!(
                alone,
                found[..found.len() / count],
                "{name}: one image alone"
            );
        }
        if let [vectors, tiles] = errors_of_bf16[..] {
            assert!(
                tiles <= 2.0 * vectors,
                "{spec}: {tiles:e} by tiles, {vectors:e} by vectors"
            );
        }
    }
}

macro_rules! predictions {
    ($($test:ident: $spec:literal,)*) => {
        $(
            #[test]
            fn $test() {
                check($spec);
            }
        )*
    };
}

predictions! {
    polynet: "small-polynet; width = 0.125",
    modules_of_three_blocks: "small-ir-1-2-1; width = 0.2; B: mpoly-3 x2; C: 3-way",
    wider_polynet: "small-polynet; width = 0.5",
    nested_sums: "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF",
    sharing_of_the_release:
        "small-ir-1-2-1; width = 0.25; sharing = release; B: poly-3 x2; C: F + GF",
    pre_activation_resnet: "resnet-50; width = 0.125; input = 64",
    post_activation_resnet: "resnet-v1-50; width = 0.25; input = 64",
    inception_resnet: "ir-3-6-3; width = 0.25; input = 107; B: 2-way x6",
    inception_resnet_v2: "inception-resnet-v2; width = 0.25; input = 107; A: 2-way x2",
    inception_v4: "inception-v4; width = 0.25; input = 107",
    inception_v4_with_residual_modules:
        "inception-v4; width = 0.25; input = 107; A: poly-2 x2; B: 2-way x2",
}

//! Steps in bf16. What they compute is held to the oracle in tests/oracle.

use super::*;

/// Parts of all kinds: both transforms, a stride, pools of maxima and means, a dropout, dropped paths.
const SPEC: &str = "small-polynet; width = 0.125; dropout = 0.2";

fn in_bf16(paths: &Paths) -> StepOptions<'_> {
    StepOptions {
        precision: Precision::Bf16,
        ..StepOptions::new(LOSS, paths)
    }
}

#[test]
fn threads_change_no_bit() {
    let batch = Batch::new(SPEC, 20);
    let paths = Paths::draw(&batch.graph, 0.5, &mut ChaCha8Rng::seed_from_u64(5));
    let options = in_bf16(&paths);
    let steps = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| batch.whole(&options))
    });
    assert!(steps[0] == steps[1] && steps[0] == steps[2]);
}

#[test]
fn one_part_is_the_usual_step() {
    let batch = Batch::new(SPEC, 6);
    let paths = Paths::all(&batch.graph);
    let options = in_bf16(&paths);
    let (found, output) = batch.synchronised(&[6], &options);
    let whole = batch.whole(&options);
    assert_eq!(output.parts[0].logits, whole.logits);
    assert_eq!(output.statistics, whole.statistics);
    assert_eq!(found, whole.tensors);
}

#[test]
fn an_engine_changes_precision_from_step_to_step() {
    let batch = Batch::new(SPEC, 4);
    let paths = Paths::all(&batch.graph);
    let mut engine = batch.engine();
    let mut step = |options: &StepOptions<'_>| {
        engine.gradients(&batch.params, batch.part(0, 4), options, &mut |_, _| {})
    };
    let (full, half) = (StepOptions::new(LOSS, &paths), in_bf16(&paths));
    let steps = [&full, &half, &full, &half].map(&mut step);
    assert!(steps[0] == steps[2] && steps[1] == steps[3]);
    assert_ne!(steps[0].logits, steps[1].logits);
}

#[test]
fn maps_take_half_the_memory() {
    use crate::cpu::Memory;
    let graph: Graph = "ir-3-6-3".parse::<Architecture>().unwrap().graph().unwrap();
    let paths = Paths::all(&graph);
    let [full, half] = [StepOptions::new(LOSS, &paths), in_bf16(&paths)]
        .map(|options| Memory::of_training(&graph, 8, &options, 1));
    let share = half.maps as f64 / full.maps as f64;
    assert!((0.5..0.6).contains(&share), "{share}");
    assert_eq!(full.optimizer, half.optimizer);
}

#[test]
fn the_loss_falls_as_that_of_f32_does() {
    let batch = Batch::new("small-ir-1-2-1; dropout = 0; classes = 4", 8);
    let paths = Paths::all(&batch.graph);
    let losses = [StepOptions::new(LOSS, &paths), in_bf16(&paths)].map(|options| {
        let (mut params, mut engine) = (batch.params.clone(), batch.engine());
        let losses = (0..12).map(|_| {
            let part = batch.part(0, 8);
            let gradients = engine.gradients(&params, part, &options, &mut |_, _| {});
            for (index, gradient) in gradients.tensors.iter().enumerate() {
                for (weight, g) in params[index].iter_mut().zip(gradient.iter().flatten()) {
                    *weight -= 0.002 * g;
                }
            }
            gradients.loss
        });
        losses.collect::<Vec<f64>>()
    });
    let [full, half] = &losses;
    assert!(half[11] < 0.8 * half[0], "{half:?}");
    for (full, half) in full.iter().zip(half) {
        assert!((full - half).abs() < 0.1 * full, "{losses:?}");
    }
}

//! Every work runs; what is counted is what the definitions say.

use hearken_tensor::Cpu;

use super::*;

fn bench(work: Workload, scratch: &std::path::Path) -> Bench {
    let sizes = Sizes { batch: 2, prompt: work.sizes().prompt.min(3), completion: 4 };
    let (shape, dtype, scratch) = (Shape::Small30, Dtype::F32, scratch.into());
    Bench { work, shape, dtype, sampling: SamplingDtype::Model, sizes, steps: 1, scratch }
}

#[test]
fn tokens_are_counted_as_defined() {
    let tokens = Workload::ALL.map(|work| work.sizes().tokens(work));
    assert_eq!(tokens, [2048, 4096, 4096, 1024, 2048, 992]);
}

#[test]
fn every_work_makes_its_steps_and_counts_operations() {
    for work in Workload::ALL {
        let folder = tempfile::tempdir().unwrap();
        let bench = bench(work, folder.path());
        let measured = measure(Cpu::new(), &bench).unwrap();
        assert_eq!(measured.laps.len(), 1, "{work:?}");
        let lap = measured.laps[0];
        // At least two operations per weight and token go into every step.
        let least = 2.0 * 27e6 * bench.sizes.batch as f64;
        assert!(least < lap.flops && lap.flops.is_finite(), "{work:?}: {lap:?}");
        assert!(0.0 < lap.seconds, "{work:?}");
    }
}

#[test]
fn works_that_sample_do_so_from_eight_bits() {
    for work in Workload::ALL.into_iter().filter(|work| work.samples()) {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench { sampling: SamplingDtype::Int8, ..bench(work, folder.path()) };
        assert_eq!(measure(Cpu::new(), &bench).unwrap().laps.len(), 1, "{work:?}");
    }
}

#[test]
fn kernels_take_no_longer_than_the_steps() {
    let folder = tempfile::tempdir().unwrap();
    let profile = Profile::default();
    let bench = bench(Workload::Sft, folder.path());
    let measured = measure_kernels(Cpu::new(), &bench, &profile).unwrap();
    let seconds: Vec<(Kernels, f64)> = profile.seconds();
    let kernels: f64 = seconds.iter().map(|(_, seconds)| seconds).sum();
    assert!(0.0 < kernels && kernels <= measured.laps[0].seconds, "{seconds:?}");
    let products = seconds.iter().find(|(kernels, _)| *kernels == Kernels::Products).unwrap();
    assert!(0.0 < products.1);
}
